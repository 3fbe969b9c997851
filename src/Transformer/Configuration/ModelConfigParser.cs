using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// From the fields of a <c>config.json</c> to a <see cref="ModelConfig"/>. Absent optional fields take the defaults of
/// the architecture's configuration class in transformers, because saved files may leave them out; sizes that define
/// the model must be there.
/// </summary>
internal static class ModelConfigParser
{
    private const string SupportedTypes = "gpt2, llama, mistral, qwen2, qwen3";

    private static readonly (string Type, string ClassPrefix, string Head, ModelFamily Family)[] s_families =
    [
        ("gpt2", "GPT2", "LMHeadModel", ModelFamily.Gpt2),
        ("llama", "Llama", "ForCausalLM", ModelFamily.Llama),
        ("mistral", "Mistral", "ForCausalLM", ModelFamily.Mistral),
        ("qwen2", "Qwen2", "ForCausalLM", ModelFamily.Qwen2),
        ("qwen3", "Qwen3", "ForCausalLM", ModelFamily.Qwen3),
    ];

    public static ModelConfig Parse(JsonFields fields)
    {
        ModelFamily family = Family(fields);
        fields.Refuse(fields.Has("quantization_config"), "quantization_config", "a model that is not quantised (float32, bfloat16 or float16 weights)");
        ModelConfig config = family == ModelFamily.Gpt2 ? Gpt2ConfigParser.Parse(fields) : LlamaConfigParser.Parse(fields, family);
        config = config with
        {
            BosTokenId = Id(fields, "bos_token_id"),
            EosTokenIds = fields.Ints("eos_token_id"),
            PadTokenId = Id(fields, "pad_token_id"),
            StorageDType = StorageDType(fields),
            OriginalJson = fields.Utf8,
        };
        CheckHeads(fields, config);
        return config;
    }

    public static ActivationKind Activation(JsonFields fields, string name, ActivationKind absent) => fields.String(name) switch
    {
        null => absent,
        "silu" or "swish" => ActivationKind.Silu,
        "gelu" => ActivationKind.Gelu,
        "gelu_new" or "gelu_pytorch_tanh" or "gelu_fast" => ActivationKind.GeluTanh,
        _ => throw fields.Wrong(name, "one of silu, gelu, gelu_new, gelu_pytorch_tanh"),
    };

    private static ModelFamily Family(JsonFields fields)
    {
        string? type = fields.String("model_type");
        string? architecture = fields.Strings("architectures") is [var first, ..] ? first : null;
        foreach ((string knownType, string prefix, string head, ModelFamily family) in s_families)
        {
            if (type is null ? architecture != prefix + head : type != knownType)
            {
                continue;
            }

            fields.Refuse(
                architecture is not null && architecture != prefix + head && architecture != prefix + "Model",
                "architectures",
                $"{prefix}{head}");
            return family;
        }

        if (type is null && architecture is null)
        {
            throw fields.Missing("model_type", $"one of {SupportedTypes}");
        }

        throw fields.Wrong(type is null ? "architectures" : "model_type", $"one of the supported architectures ({SupportedTypes})");
    }

    private static int? Id(JsonFields fields, string name) => fields.Int(name) is >= 0 and var id ? id : null;

    private static DType? StorageDType(JsonFields fields)
    {
        string name = fields.Has("dtype") ? "dtype" : "torch_dtype";
        return fields.String(name) switch
        {
            null => null,
            "float32" => DType.F32,
            "bfloat16" => DType.BF16,
            "float16" => DType.F16,
            "float64" => DType.F64,
            _ => throw fields.Wrong(name, "one of float32, bfloat16, float16, float64"),
        };
    }

    private static void CheckHeads(JsonFields fields, ModelConfig config)
    {
        if (config.HeadCount % config.KeyValueHeadCount != 0)
        {
            throw fields.Error(
                $"num_attention_heads ({config.HeadCount}) is not a multiple of num_key_value_heads ({config.KeyValueHeadCount}); "
                + "every key-value head serves the same number of query heads");
        }

        if (config.Positions == PositionKind.Rope && config.HeadDim % 2 != 0)
        {
            throw fields.Error($"head_dim is {config.HeadDim}; rotary positions need an even number");
        }

        // Sizes enter products of two; their element counts must stay within what one tensor can hold.
        long attention = (long)config.HeadCount * config.HeadDim;
        if (attention > int.MaxValue)
        {
            throw fields.Error($"num_attention_heads ({config.HeadCount}) times head_dim ({config.HeadDim}) is over {int.MaxValue}");
        }
    }
}

using System.Text.Encodings.Web;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer;

public sealed partial record ModelConfig
{
    private static readonly JsonWriterOptions s_indented =
        new() { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Writes <c>config.json</c> from this record's properties, in the older spelling that every version of
    /// transformers reads. For models that Engine made itself, which are of the Llama type.
    /// </summary>
    /// <param name="path">The file, written atomically.</param>
    /// <exception cref="NotSupportedException"><see cref="Family"/> is not Llama, or a property has no place in its file.</exception>
    /// <exception cref="EngineDataException">The file cannot be written.</exception>
    public void WriteJson(string path)
    {
        bool expressible = Family == ModelFamily.Llama && Norm == NormKind.RmsNorm && GatedMlp && Positions == PositionKind.Rope
            && LayerWindows.Count == 0 && !QkNorm && ScaleAttention
            && QueryBias == OutputBias && KeyBias == OutputBias && ValueBias == OutputBias;
        if (!expressible)
        {
            throw new NotSupportedException($"config.json is written only for models that the llama type can express; this one is {Family}");
        }

        AtomicFile.Write(path, stream =>
        {
            using (var json = new Utf8JsonWriter(stream, s_indented))
            {
                WriteLlama(json);
            }

            stream.WriteByte((byte)'\n');
        });
    }

    /// <summary>
    /// Writes the <c>config.json</c> this was read from, field by field as found, with the dtype field set to
    /// <paramref name="storage"/> when given: for a model that has the same architecture and other weights.
    /// </summary>
    /// <exception cref="InvalidOperationException">This record was not read from a file.</exception>
    /// <exception cref="EngineDataException">The file cannot be written.</exception>
    public void CopyJson(string path, DType? storage = null)
    {
        if (OriginalJson.IsEmpty)
        {
            throw new InvalidOperationException("this configuration was not read from a file; use WriteJson");
        }

        using var document = JsonDocument.Parse(OriginalJson);
        AtomicFile.Write(path, stream =>
        {
            using (var json = new Utf8JsonWriter(stream, s_indented))
            {
                Copy(json, document.RootElement, storage);
            }

            stream.WriteByte((byte)'\n');
        });
    }

    private static void Copy(Utf8JsonWriter json, JsonElement root, DType? storage)
    {
        bool named = false;
        json.WriteStartObject();
        foreach (JsonProperty field in root.EnumerateObject())
        {
            if (storage is { } dtype && (field.NameEquals("torch_dtype") || field.NameEquals("dtype")))
            {
                named = true;
                json.WriteString(field.Name, TorchName(dtype));
            }
            else
            {
                field.WriteTo(json);
            }
        }

        if (storage is { } added && !named)
        {
            json.WriteString("torch_dtype"u8, TorchName(added));
        }

        json.WriteEndObject();
    }

    private static string TorchName(DType dtype) => dtype switch
    {
        DType.F32 => "float32",
        DType.F64 => "float64",
        DType.BF16 => "bfloat16",
        DType.F16 => "float16",
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "weights have a floating-point dtype"),
    };

    private void WriteLlama(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartArray("architectures"u8);
        json.WriteStringValue("LlamaForCausalLM"u8);
        json.WriteEndArray();
        json.WriteBoolean("attention_bias"u8, OutputBias);
        json.WriteNumber("attention_dropout"u8, AttentionDropout);
        WriteIds(json, "bos_token_id", BosTokenId is { } bos ? [bos] : []);
        WriteIds(json, "eos_token_id", EosTokenIds);
        json.WriteNumber("head_dim"u8, HeadDim);
        json.WriteString("hidden_act"u8, Activation switch
        {
            ActivationKind.Silu => "silu",
            ActivationKind.Gelu => "gelu",
            _ => "gelu_pytorch_tanh",
        });
        json.WriteNumber("hidden_size"u8, HiddenSize);
        json.WriteNumber("initializer_range"u8, 0.02);
        json.WriteNumber("intermediate_size"u8, IntermediateSize);
        json.WriteNumber("max_position_embeddings"u8, MaxPositions);
        json.WriteBoolean("mlp_bias"u8, MlpBias);
        json.WriteString("model_type"u8, "llama"u8);
        json.WriteNumber("num_attention_heads"u8, HeadCount);
        json.WriteNumber("num_hidden_layers"u8, LayerCount);
        json.WriteNumber("num_key_value_heads"u8, KeyValueHeadCount);
        WriteIds(json, "pad_token_id", PadTokenId is { } pad ? [pad] : []);
        json.WriteNumber("rms_norm_eps"u8, NormEps);
        WriteRopeScaling(json);
        json.WriteNumber("rope_theta"u8, RopeTheta);
        json.WriteBoolean("tie_word_embeddings"u8, TieWordEmbeddings);
        json.WriteString("torch_dtype"u8, TorchName(StorageDType ?? DType.F32));
        json.WriteBoolean("use_cache"u8, true);
        json.WriteNumber("vocab_size"u8, VocabularySize);
        json.WriteEndObject();
    }

    private static void WriteIds(Utf8JsonWriter json, string name, IReadOnlyList<int> ids)
    {
        if (ids.Count == 0)
        {
            json.WriteNull(name);
        }
        else if (ids.Count == 1)
        {
            json.WriteNumber(name, ids[0]);
        }
        else
        {
            json.WriteStartArray(name);
            foreach (int id in ids)
            {
                json.WriteNumberValue(id);
            }

            json.WriteEndArray();
        }
    }

    private void WriteRopeScaling(Utf8JsonWriter json)
    {
        if (RopeScaling is not { } scaling)
        {
            json.WriteNull("rope_scaling"u8);
            return;
        }

        json.WriteStartObject("rope_scaling"u8);
        json.WriteNumber("factor"u8, scaling.Factor);
        if (scaling.Kind == RopeScalingKind.Llama3)
        {
            json.WriteNumber("high_freq_factor"u8, scaling.HighFreqFactor);
            json.WriteNumber("low_freq_factor"u8, scaling.LowFreqFactor);
            json.WriteNumber("original_max_position_embeddings"u8, scaling.OriginalMaxPositions);
        }

        json.WriteString("rope_type"u8, scaling.Kind == RopeScalingKind.Llama3 ? "llama3"u8 : "linear"u8);
        json.WriteEndObject();
    }
}

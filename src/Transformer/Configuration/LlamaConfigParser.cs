namespace Engine.Transformer;

/// <summary>The Llama lineage's field names, with each architecture's own defaults.</summary>
internal static class LlamaConfigParser
{
    public static ModelConfig Parse(JsonFields fields, ModelFamily family)
    {
        int hidden = fields.RequiredSize("hidden_size");
        int layers = fields.RequiredLayerCount("num_hidden_layers");
        int heads = fields.RequiredSize("num_attention_heads");
        (double theta, RopeScaling? scaling) = RopeParser.Parse(fields);

        // Qwen2 fixes its biases in code (q, k, v and not o); Mistral has none.
        bool allBiases = family is ModelFamily.Llama or ModelFamily.Qwen3 && fields.Bool("attention_bias", false);
        bool qkvBias = allBiases || family == ModelFamily.Qwen2;
        return new ModelConfig
        {
            Family = family,
            VocabularySize = fields.RequiredSize("vocab_size"),
            HiddenSize = hidden,
            LayerCount = layers,
            HeadCount = heads,
            KeyValueHeadCount = KeyValueHeads(fields, family, heads),
            HeadDim = HeadDim(fields, family, hidden, heads),
            IntermediateSize = fields.RequiredSize("intermediate_size"),
            MaxPositions = fields.Int("max_position_embeddings", 1) ?? family switch
            {
                ModelFamily.Llama => 2048,
                ModelFamily.Mistral => 131072,
                _ => 32768,
            },
            NormEps = fields.Positive("rms_norm_eps") ?? 1e-6,
            Activation = ModelConfigParser.Activation(fields, "hidden_act", ActivationKind.Silu),
            RopeTheta = theta,
            RopeScaling = scaling,
            LayerWindows = Windows(fields, family, layers),
            QueryBias = qkvBias,
            KeyBias = qkvBias,
            ValueBias = qkvBias,
            OutputBias = allBiases,
            MlpBias = family == ModelFamily.Llama && fields.Bool("mlp_bias", false),
            QkNorm = family == ModelFamily.Qwen3,
            TieWordEmbeddings = fields.Bool("tie_word_embeddings", false),
            AttentionDropout = fields.Probability("attention_dropout", 0),
        };
    }

    // An explicit null means "as many as query heads" in every class; only an absent field takes the class's default.
    private static int KeyValueHeads(JsonFields fields, ModelFamily family, int heads) =>
        fields.Int("num_key_value_heads", 1) ?? (fields.IsPresent("num_key_value_heads") ? heads : family switch
        {
            ModelFamily.Mistral => 8,
            ModelFamily.Qwen2 or ModelFamily.Qwen3 => 32,
            _ => heads,
        });

    private static int HeadDim(JsonFields fields, ModelFamily family, int hidden, int heads)
    {
        if (fields.Int("head_dim", 1) is { } given)
        {
            return given;
        }

        if (family == ModelFamily.Qwen3 && !fields.IsPresent("head_dim"))
        {
            return 128;
        }

        return hidden % heads == 0
            ? hidden / heads
            : throw fields.Error($"hidden_size ({hidden}) is not a multiple of num_attention_heads ({heads}) and there is no head_dim");
    }

    private static int[] Windows(JsonFields fields, ModelFamily family, int layers)
    {
        if (family == ModelFamily.Llama)
        {
            return [];
        }

        bool mistral = family == ModelFamily.Mistral;
        int? window = fields.Int("sliding_window", 1) ?? (fields.IsPresent("sliding_window") ? null : 4096);
        if (!mistral && !fields.Bool("use_sliding_window", false))
        {
            window = null;
        }

        if (fields.Strings("layer_types") is { } types)
        {
            return Typed(fields, types, layers, window);
        }

        // Mistral slides in every layer; Qwen in those from max_window_layers on.
        int first = mistral ? 0 : fields.Int("max_window_layers", 0) ?? 28;
        return window is { } size && first < layers ? [.. Enumerable.Range(0, layers).Select(layer => layer >= first ? size : 0)] : [];
    }

    private static int[] Typed(JsonFields fields, IReadOnlyList<string> types, int layers, int? window)
    {
        if (types.Count != layers)
        {
            throw fields.Error($"layer_types has {types.Count} entries; num_hidden_layers is {layers}");
        }

        int[] windows = [.. types.Select((type, layer) => type switch
        {
            "full_attention" => 0,
            "sliding_attention" => window ?? throw fields.Error($"layer_types[{layer}] is \"sliding_attention\", but no sliding_window is in use"),
            _ => throw fields.Error($"layer_types[{layer}] is {ErrorText.Quote(type)}; full_attention or sliding_attention is needed"),
        })];
        return Array.TrueForAll(windows, size => size == 0) ? [] : windows;
    }
}

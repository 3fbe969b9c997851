namespace Engine.Transformer;

/// <summary>GPT-2's field names and defaults (transformers' <c>GPT2Config</c>).</summary>
internal static class Gpt2ConfigParser
{
    public static ModelConfig Parse(JsonFields fields)
    {
        int hidden = fields.RequiredSize("n_embd");
        int heads = fields.RequiredSize("n_head");
        if (hidden % heads != 0)
        {
            throw fields.Error($"n_embd ({hidden}) is not a multiple of n_head ({heads})");
        }

        if (fields.Bool("scale_attn_by_inverse_layer_idx", false))
        {
            throw fields.Wrong("scale_attn_by_inverse_layer_idx", "false (scaling by the layer's index is not supported)");
        }

        if (fields.Bool("add_cross_attention", false))
        {
            throw fields.Wrong("add_cross_attention", "false (a decoder without an encoder)");
        }

        if ((long)hidden * 4 > int.MaxValue)
        {
            throw fields.Wrong("n_embd", "a smaller number");
        }

        return new ModelConfig
        {
            Family = ModelFamily.Gpt2,
            VocabularySize = fields.RequiredSize("vocab_size"),
            HiddenSize = hidden,
            LayerCount = fields.RequiredLayerCount("n_layer"),
            HeadCount = heads,
            KeyValueHeadCount = heads,
            HeadDim = hidden / heads,
            IntermediateSize = fields.Int("n_inner", 1) ?? 4 * hidden,
            MaxPositions = fields.RequiredSize(fields.Has("n_positions") ? "n_positions" : "n_ctx"),
            Norm = NormKind.LayerNorm,
            NormEps = fields.Positive("layer_norm_epsilon") ?? 1e-5,
            Activation = ModelConfigParser.Activation(fields, "activation_function", ActivationKind.GeluTanh),
            GatedMlp = false,
            Positions = PositionKind.Learned,
            QueryBias = true,
            KeyBias = true,
            ValueBias = true,
            OutputBias = true,
            MlpBias = true,
            TieWordEmbeddings = fields.Bool("tie_word_embeddings", true),
            ScaleAttention = fields.Bool("scale_attn_weights", true),
            AttentionDropout = fields.Probability("attn_pdrop", 0.1),
            EmbeddingDropout = fields.Probability("embd_pdrop", 0.1),
            ResidualDropout = fields.Probability("resid_pdrop", 0.1),
        };
    }
}

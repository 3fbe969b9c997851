namespace Engine.Transformer;

/// <summary>The module paths that Hugging Face checkpoints use: GPT-2's, and those Llama, Mistral and Qwen share.</summary>
internal abstract class ParameterNames
{
    /// <summary>The output head has one name everywhere.</summary>
    public const string Head = "lm_head";

    public abstract string Tokens { get; }

    public virtual string? Positions => null;

    public abstract string FinalNorm { get; }

    public static ParameterNames For(ModelConfig config) => config.Family == ModelFamily.Gpt2 ? new Gpt2() : new Llama();

    public abstract string AttentionNorm(int layer);

    public abstract string MlpNorm(int layer);

    /// <summary>q, k and v; or one path for a fused projection.</summary>
    public abstract string[] Projections(int layer);

    public abstract string AttentionOutput(int layer);

    public abstract string QueryNorm(int layer);

    public abstract string KeyNorm(int layer);

    public abstract string Gate(int layer);

    public abstract string Up(int layer);

    public abstract string Down(int layer);

    private sealed class Llama : ParameterNames
    {
        public override string Tokens => "model.embed_tokens";

        public override string FinalNorm => "model.norm";

        public override string AttentionNorm(int layer) => $"model.layers.{layer}.input_layernorm";

        public override string MlpNorm(int layer) => $"model.layers.{layer}.post_attention_layernorm";

        public override string[] Projections(int layer) =>
        [
            $"model.layers.{layer}.self_attn.q_proj",
            $"model.layers.{layer}.self_attn.k_proj",
            $"model.layers.{layer}.self_attn.v_proj",
        ];

        public override string AttentionOutput(int layer) => $"model.layers.{layer}.self_attn.o_proj";

        public override string QueryNorm(int layer) => $"model.layers.{layer}.self_attn.q_norm";

        public override string KeyNorm(int layer) => $"model.layers.{layer}.self_attn.k_norm";

        public override string Gate(int layer) => $"model.layers.{layer}.mlp.gate_proj";

        public override string Up(int layer) => $"model.layers.{layer}.mlp.up_proj";

        public override string Down(int layer) => $"model.layers.{layer}.mlp.down_proj";
    }

    private sealed class Gpt2 : ParameterNames
    {
        public override string Tokens => "transformer.wte";

        public override string Positions => "transformer.wpe";

        public override string FinalNorm => "transformer.ln_f";

        public override string AttentionNorm(int layer) => $"transformer.h.{layer}.ln_1";

        public override string MlpNorm(int layer) => $"transformer.h.{layer}.ln_2";

        public override string[] Projections(int layer) => [$"transformer.h.{layer}.attn.c_attn"];

        public override string AttentionOutput(int layer) => $"transformer.h.{layer}.attn.c_proj";

        public override string QueryNorm(int layer) => throw new InvalidOperationException("gpt2 has no query norm");

        public override string KeyNorm(int layer) => throw new InvalidOperationException("gpt2 has no key norm");

        public override string Gate(int layer) => throw new InvalidOperationException("gpt2 has no gated MLP");

        public override string Up(int layer) => $"transformer.h.{layer}.mlp.c_fc";

        public override string Down(int layer) => $"transformer.h.{layer}.mlp.c_proj";
    }
}

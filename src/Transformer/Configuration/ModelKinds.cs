namespace Engine.Transformer;

/// <summary>The architectures the decoder covers, by <c>model_type</c>.</summary>
public enum ModelFamily
{
    /// <summary><c>gpt2</c>: LayerNorm, learned positions, fused q,k,v, plain GELU MLP, biases everywhere.</summary>
    Gpt2,

    /// <summary><c>llama</c>: RMSNorm, RoPE, grouped-query attention, SwiGLU. Llama 1 to 3.3.</summary>
    Llama,

    /// <summary><c>mistral</c>: Llama with a sliding window.</summary>
    Mistral,

    /// <summary><c>qwen2</c>: Llama with biases on q, k and v.</summary>
    Qwen2,

    /// <summary><c>qwen3</c>: Llama with RMSNorm on each head's q and k, and an explicit head_dim.</summary>
    Qwen3,
}

/// <summary>The normalisation before attention, before the MLP and after the last block.</summary>
public enum NormKind
{
    /// <summary>x · rsqrt(mean(x²) + eps) · w.</summary>
    RmsNorm,

    /// <summary>(x − mean) · rsqrt(var + eps) · w + b.</summary>
    LayerNorm,
}

/// <summary>The MLP's nonlinearity.</summary>
public enum ActivationKind
{
    /// <summary>x · sigmoid(x); <c>silu</c>, <c>swish</c>.</summary>
    Silu,

    /// <summary>x · Φ(x) by the error function; <c>gelu</c>.</summary>
    Gelu,

    /// <summary>The tanh approximation of GELU; <c>gelu_new</c>, <c>gelu_pytorch_tanh</c>, <c>gelu_fast</c>.</summary>
    GeluTanh,
}

/// <summary>How a token's position enters the model.</summary>
public enum PositionKind
{
    /// <summary>Rotary embedding of q and k.</summary>
    Rope,

    /// <summary>A learned vector per position, added to the token's embedding.</summary>
    Learned,
}

/// <summary>How RoPE's frequencies are changed for contexts longer than the pre-trained one.</summary>
public enum RopeScalingKind
{
    /// <summary>All frequencies divided by the factor (position interpolation, arXiv:2306.15595).</summary>
    Linear,

    /// <summary>
    /// Llama 3.1's: wavelengths over <c>original/low_freq_factor</c> are stretched by the factor, those under
    /// <c>original/high_freq_factor</c> kept, between them interpolated.
    /// </summary>
    Llama3,
}

/// <summary>RoPE scaling and its parameters.</summary>
/// <param name="Kind">The method.</param>
/// <param name="Factor">How much longer the context becomes; over 0.</param>
/// <param name="LowFreqFactor">Llama3 only; 0 otherwise.</param>
/// <param name="HighFreqFactor">Llama3 only, over <paramref name="LowFreqFactor"/>; 0 otherwise.</param>
/// <param name="OriginalMaxPositions">Llama3 only: the pre-trained context length; 0 otherwise.</param>
public sealed record RopeScaling(
    RopeScalingKind Kind, double Factor, double LowFreqFactor = 0, double HighFreqFactor = 0, int OriginalMaxPositions = 0);

namespace Engine.Lora;

/// <summary>What kind of layer a module is, as far as an adapter cares.</summary>
public enum ModuleKind
{
    /// <summary>A linear layer whose weight is [out, in].</summary>
    Linear,

    /// <summary>GPT-2's linear layer, whose weight is stored [in, out] (PEFT's <c>fan_in_fan_out</c>).</summary>
    Conv1D,

    /// <summary>A token or position embedding, [rows, width].</summary>
    Embedding,

    /// <summary>LayerNorm or RMSNorm, [width].</summary>
    Norm,

    /// <summary>The output head: a linear layer [vocabulary, width], possibly tied to the embedding.</summary>
    Head,
}

/// <summary>One layer of the base model that holds parameters, as an adapter sees it.</summary>
/// <param name="Path">
/// The full path in the Hugging Face model, such as <c>model.layers.0.self_attn.q_proj</c> or
/// <c>transformer.h.0.attn.c_attn</c>.
/// </param>
/// <param name="Kind">The kind of layer.</param>
/// <param name="InFeatures">Input width; for an embedding the number of rows; for a norm its width.</param>
/// <param name="OutFeatures">Output width; for an embedding and a norm the width.</param>
/// <param name="HasBias">Whether the layer has a bias vector of length <paramref name="OutFeatures"/>.</param>
public sealed record ModuleDescription(string Path, ModuleKind Kind, int InFeatures, int OutFeatures, bool HasBias = false)
{
    /// <summary>The shape in which the weight is stored in a checkpoint.</summary>
    public IReadOnlyList<int> WeightShape => Kind switch
    {
        ModuleKind.Linear or ModuleKind.Head => [OutFeatures, InFeatures],
        ModuleKind.Conv1D or ModuleKind.Embedding => [InFeatures, OutFeatures],
        _ => [OutFeatures],
    };
}

using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>One adapter's share in one linear: ΔW = scale·B·A, and DoRA's magnitude if it has one.</summary>
public sealed class LoraLayer : IDisposable
{
    /// <summary>Takes over the variables.</summary>
    public LoraLayer(TargetedModule target, int site, Variable a, Variable b, Variable? magnitude, float dropout)
    {
        ArgumentNullException.ThrowIfNull(target);
        Target = target;
        Site = site;
        A = a;
        B = b;
        Magnitude = magnitude;
        Dropout = dropout;
    }

    /// <summary>The linear and this layer's rank, α and scale.</summary>
    public TargetedModule Target { get; }

    /// <summary>The linear's path.</summary>
    public string Path => Target.Module.Path;

    /// <summary>Number of the linear in the model: the dropout site.</summary>
    public int Site { get; }

    /// <summary>Down-projection [rank, in].</summary>
    public Variable A { get; }

    /// <summary>Up-projection [out, rank].</summary>
    public Variable B { get; }

    /// <summary>DoRA's magnitude [out], or null.</summary>
    public Variable? Magnitude { get; }

    /// <summary>α/r or α/√r.</summary>
    public float Scale => (float)Target.Scale;

    /// <summary>Probability of dropping an input element on the low-rank branch while training.</summary>
    public float Dropout { get; }

    /// <summary>PiSSA: the A and B it started with, and what they leave of the weight. Null otherwise.</summary>
    internal PissaStart? Start { get; set; }

    /// <summary>A, B and the magnitude.</summary>
    public IEnumerable<Variable> Parameters => Magnitude is null ? [A, B] : [A, B, Magnitude];

    /// <inheritdoc/>
    public void Dispose()
    {
        A.Dispose();
        B.Dispose();
        Magnitude?.Dispose();
        Start?.Dispose();
    }
}

/// <summary>
/// What a PiSSA layer was split from: W = residual + scale·B₀·A₀. The residual takes the weight's place while the adapter
/// is active, so the base and other adapters never see it; keeping A₀ and B₀ lets the trained layer be saved as an
/// ordinary adapter of the original weight.
/// </summary>
internal sealed record PissaStart(Variable Residual, Tensor A, Tensor B) : IDisposable
{
    public void Dispose()
    {
        Residual.Dispose();
        A.Dispose();
        B.Dispose();
    }
}

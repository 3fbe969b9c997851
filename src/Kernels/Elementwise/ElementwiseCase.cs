using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of an <see cref="Elementwise"/> op; tensors [Rows, Columns] and, where the op has one, a vector [Columns].</summary>
/// <param name="Operation">The method's name.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Number of columns.</param>
/// <param name="DType">Dtype of all tensors.</param>
public sealed record ElementwiseCase(string Operation, long Rows, long Columns, DType DType) : OpCase
{
    private long Elements => Rows * Columns;

    /// <inheritdoc/>
    public override string Name => $"Elementwise.{Operation}[{Rows}, {Columns}]";

    /// <inheritdoc/>
    public override long Bytes => DType.Size() * Operation switch
    {
        nameof(Elementwise.Scale) => 2 * Elements,
        nameof(Elementwise.AddBias) or nameof(Elementwise.ScaleColumns) => (2 * Elements) + Columns,
        nameof(Elementwise.BiasGradient) => Elements + (2 * Columns),
        _ => 3 * Elements,
    };

    /// <inheritdoc/>
    public override long Flops => Operation == nameof(Elementwise.AddScaled) ? 2 * Elements : Elements;

    /// <summary>S is the sum of the magnitudes of the terms.</summary>
    public override ErrorBound Error(DType dtype) => Operation switch
    {
        nameof(Elementwise.BiasGradient) =>
            ErrorBound.Roundings(dtype, Rows + 1, "at most one rounding per term added, in any order"),
        nameof(Elementwise.AddScaled) => ErrorBound.Roundings(dtype, 2, "product and sum"),
        _ => ErrorBound.Roundings(dtype, 1, "one operation"),
    };
}

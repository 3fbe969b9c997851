using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>
/// One set of inputs of a case, shared by its candidates; each tensor is made when it is first asked for. A candidate takes
/// what it needs before it returns its call: within the call storage belongs to the recording.
/// </summary>
/// <param name="make">Makes and owns the tensors.</param>
/// <param name="shape">The case.</param>
/// <param name="dtype">Dtype of activations, frozen matrix and adapters.</param>
internal sealed class LoraBenchSet(BenchTensors make, LoraBenchCase shape, DType dtype) : IDisposable
{
    /// <summary>Small, so that merging into one matrix again and again leaves it in the range it was in.</summary>
    public const float Scale = 1e-3f;

    private readonly List<IDisposable> _owned = [];

    /// <summary>The case.</summary>
    public LoraBenchCase Case => shape;

    /// <summary>For tensors of a candidate's own.</summary>
    public BenchTensors Make => make;

    /// <summary>Dtype of activations, frozen matrix and adapters.</summary>
    public DType DType => dtype;

    /// <summary>Input [M, K].</summary>
    public Tensor X => field ??= make.Normal([shape.Rows, shape.Inputs], dtype);

    /// <summary>Frozen matrix [N, K].</summary>
    public Tensor W => field ??= NewW();

    /// <summary>Down-projection [r, K].</summary>
    public Tensor A => field ??= make.Normal([shape.Rank, shape.Inputs], dtype);

    /// <summary>Up-projection [N, r].</summary>
    public Tensor B => field ??= make.Normal([shape.Outputs, shape.Rank], dtype);

    /// <summary>W with A and B in its border.</summary>
    public BorderedWeight Bordered => field ??= Own(NewBordered());

    /// <summary>X with a border.</summary>
    public Tensor BorderedX => field ??= WithBorder(X);

    /// <summary>The gradient of Y with a border.</summary>
    public Tensor BorderedGradY => field ??= WithBorder(GradY);

    /// <summary>Result [M, N].</summary>
    public Tensor Y => field ??= make.Empty([shape.Rows, shape.Outputs], dtype);

    /// <summary>scale·X·Aᵀ [M, r], kept for the backward.</summary>
    public Tensor S => field ??= make.Empty([shape.Rows, shape.Rank], MatMul.OperandType(X));

    /// <summary>Gradient of Y [M, N].</summary>
    public Tensor GradY => field ??= make.Normal([shape.Rows, shape.Outputs], dtype);

    /// <summary>Gradient of X [M, K].</summary>
    public Tensor GradX => field ??= make.Empty([shape.Rows, shape.Inputs], dtype);

    /// <summary>Gradient of A [r, K], added to in f32 as in training.</summary>
    public Tensor GradA => field ??= make.Zeros([shape.Rank, shape.Inputs], DType.F32);

    /// <summary>Gradient of B [N, r], added to in f32 as in training.</summary>
    public Tensor GradB => field ??= make.Zeros([shape.Outputs, shape.Rank], DType.F32);

    /// <summary>The adapters of a mixed batch.</summary>
    public AdapterTable Table => field ??= Own(AdapterTable.Create(
        [.. Enumerable.Range(0, shape.Adapters).Select(_ => (GroupedAdapter?)new GroupedAdapter(
            make.Normal([shape.Rank, shape.Inputs], DType.F32), make.Normal([shape.Outputs, shape.Rank], DType.F32), Scale))],
        dtype));

    /// <summary>The rows of a mixed batch: all adapters have rows, in turn.</summary>
    public AdapterRows RowAdapters => field ??= Own(new AdapterRows([.. Enumerable.Range(0, shape.Rows).Select(i => i % shape.Adapters)], make.Device));

    /// <summary>Another frozen matrix, for a candidate that changes it or lays it out in its own way.</summary>
    public Tensor NewW() => make.Normal([shape.Outputs, shape.Inputs], dtype);

    /// <summary>Takes over what a candidate made besides tensors.</summary>
    public T Own<T>(T value)
        where T : IDisposable
    {
        _owned.Add(value);
        return value;
    }

    public void Dispose()
    {
        _owned.ForEach(o => o.Dispose());
        _owned.Clear();
    }

    private BorderedWeight NewBordered()
    {
        BorderedWeight weight = BorderedWeight.Create([W], [shape.Rank], transposed: false);
        weight.TryAssign([shape.Rank], [Scale]);
        using var writer = new BorderWriter();
        writer.Add(weight, 0, A, B);
        writer.Run();
        return weight;
    }

    private Tensor WithBorder(Tensor matrix)
    {
        Tensor result = Own(Tensor.EmptyBordered(matrix.Shape, Bordered.Border, matrix.DType, matrix.Device));
        Copy.Run(matrix, result);
        return result;
    }
}

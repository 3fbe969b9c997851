using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// A linear with a low-rank path for few rows: y = x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ, rounded once. On a GPU one launch that is
/// bound by reading W; sums in fp32, and s = scale·x·Aᵀ stays fp32. Every matrix may have a gap between its rows, so that A and
/// B may be borders of W.
/// </summary>
/// <remarks>
/// On a GPU bf16 or f16, x, W, A, B and y alike. The CPU takes f32 and f64 too, and other dtypes side by side, by the product
/// and <see cref="LowRank"/>. Launches share one workspace a device: run them on the device's own stream.
/// </remarks>
public static class Gemv
{
    /// <summary>Most rows of x.</summary>
    public const int MostRows = 16;

    /// <summary>Largest rank.</summary>
    public const int MostRank = 256;

    /// <summary>Whether <see cref="Run"/> takes this many rows of this dtype on a device.</summary>
    public static bool Supports(Device device, DType dtype, int rows, int rank)
    {
        ArgumentNullException.ThrowIfNull(device);
        return rows <= MostRows && rank <= MostRank && (device.Kind == DeviceKind.Cpu ? dtype.IsFloat() : dtype is DType.BF16 or DType.F16);
    }

    /// <summary>Runs it.</summary>
    /// <param name="x">Input [M, K], M up to <see cref="MostRows"/>; of another rank M is the product of all extents but the last.</param>
    /// <param name="w">Weight [N, K].</param>
    /// <param name="bias">[N] of any float dtype, or null.</param>
    /// <param name="a">Down-projection [r, K], r up to <see cref="MostRank"/>; null for no low-rank path.</param>
    /// <param name="b">Up-projection [N, r]; null with <paramref name="a"/>.</param>
    /// <param name="scale">α/r or α/√r.</param>
    /// <param name="y">The result [M, N]; overlaps nothing else.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit, or there are too many rows or ranks.</exception>
    /// <exception cref="NotSupportedException">The device does not compute in these dtypes.</exception>
    public static void Run(Tensor x, Tensor w, Tensor? bias, Tensor? a, Tensor? b, float scale, Tensor y)
    {
        const string Op = "Gemv.Run";
        RowMatrix input = RowMatrix.Of(Op, x, x);
        RowMatrix weight = RowMatrix.Of(Op, w, x);
        RowMatrix output = RowMatrix.Of(Op, y, x).Sized(Op, y, input.Rows, weight.Rows);
        if (input.Rows > MostRows)
        {
            Check.Throw(Op, nameof(x), $"has to have at most {MostRows} rows", x);
        }

        if (weight.Columns != input.Columns)
        {
            Check.Throw(Op, nameof(w), $"has to have {input.Columns} columns", w);
        }

        if (bias is not null)
        {
            Check.Float(Op, bias);
            Check.Count(Op, bias, weight.Rows);
            Check.SameDevice(Op, bias, x);
        }

        if ((a is null) != (b is null))
        {
            throw new ArgumentException($"{Op}: a and b go together; {(a is null ? "a" : "b")} is null", a is null ? nameof(a) : nameof(b));
        }

        RowMatrix down = a is null ? default : RowMatrix.Of(Op, a, x);
        if (a is not null && (down.Columns != input.Columns || down.Rows > MostRank))
        {
            Check.Throw(Op, nameof(a), $"has to have at most {MostRank} rows of {input.Columns} columns", a);
        }

        RowMatrix up = b is null ? default : RowMatrix.Of(Op, b, x).Sized(Op, b, weight.Rows, down.Rows);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                RunOnCpu(x, w, bias, a, b, scale, y);
                break;
            case DeviceKind.Cuda:
                GemvCuda.Run(input, weight, bias, down, up, scale, output, x.Device);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    // Summed in the compute dtype and rounded once.
    private static void RunOnCpu(Tensor x, Tensor w, Tensor? bias, Tensor? a, Tensor? b, float scale, Tensor y)
    {
        using Tensor input = RowMatrix.View("Gemv.Run", x);
        using Tensor output = RowMatrix.View("Gemv.Run", y);
        using Tensor sum = Tensor.Empty(output.Shape, Check.Statistics(y.DType), y.Device);
        MatMul.Run(input, false, w, true, sum, bias: bias);
        if (a is not null)
        {
            LowRank.Forward(input, a, b!, scale, sum);
        }

        if (output.IsContiguous)
        {
            Cast.Run(sum, output);
            return;
        }

        using Tensor rounded = Tensor.Empty(output.Shape, y.DType, y.Device);
        Cast.Run(sum, rounded);
        Copy.Run(rounded, output);
    }
}

using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Sums of small tensors.</summary>
public static class Reduction
{
    /// <summary>y[0] = scale·Σ x, accumulated in f64 in index order.</summary>
    /// <param name="x">f32 or f64, any shape, contiguous.</param>
    /// <param name="scale">Factor of the sum.</param>
    /// <param name="y">[1], like <paramref name="x"/> in dtype.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Sum(Tensor x, float scale, Tensor y)
    {
        const string Op = "Reduction.Sum";
        Check.Float(Op, x);
        Check.Float(Op, y);
        Check.Count(Op, y, 1);
        if (x.DType != y.DType || x.DType is not (DType.F32 or DType.F64))
        {
            Check.Throw(Op, nameof(x), "has to be f32 or f64, the same as y", x);
        }

        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                SumCpu(x, scale, y);
                break;
            case DeviceKind.Cuda:
                ReductionCuda.Sum(x, scale, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static void SumCpu(Tensor x, float scale, Tensor y)
    {
        double sum = 0;
        if (x.DType == DType.F64)
        {
            foreach (double value in x.Span<double>())
            {
                sum += value;
            }

            y.Span<double>()[0] = scale * sum;
            return;
        }

        foreach (float value in x.Span<float>())
        {
            sum += value;
        }

        y.Span<float>()[0] = (float)(scale * sum);
    }
}

using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The gradient norm on the CPU: a partial sum for each chunk of fixed size, added up in order.</summary>
internal static unsafe class GradientNormCpu
{
    /// <summary>The arguments have been checked.</summary>
    public static double Compute(IReadOnlyList<Tensor> gradients)
    {
        double sum = 0;
        for (int i = 0; i < gradients.Count; i++)
        {
            Tensor gradient = gradients[i];
            int chunks = CpuParallel.ChunkCount(gradient.Elements, RowLoop.ElementGrain);
            using ScratchBuffer<double> partial = Scratch.Rent<double>(chunks);
            CpuParallel.For(chunks, new State(new FloatRows(gradient), gradient.Elements, (nint)partial.Pointer), static (state, chunk) =>
            {
                long begin = chunk * RowLoop.ElementGrain;
                long end = Math.Min(begin + RowLoop.ElementGrain, state.Elements);
                ((double*)state.Partial)[chunk] =
                    state.Rows.DType == DType.F64 ? Sum<double>(state.Rows, begin, end) : Sum<float>(state.Rows, begin, end);
            });
            for (int c = 0; c < chunks; c++)
            {
                sum += partial.Pointer[c];
            }
        }

        return Math.Sqrt(sum);
    }

    private static double Sum<T>(FloatRows rows, long begin, long end)
        where T : unmanaged
    {
        using ScratchBuffer<T> buffer = Scratch.Rent<T>(RowLoop.Block);
        double sum = 0;
        for (long at = begin; at < end; at += RowLoop.Block)
        {
            int count = (int)Math.Min(RowLoop.Block, end - at);
            T* values = rows.Read(at, count, buffer.Pointer);
            sum += typeof(T) == typeof(double) ? SumSquares((double*)values, count) : SumSquares((float*)values, count);
        }

        return sum;
    }

    private static double SumSquares(double* values, int count)
    {
        Vector<double> sums = default;
        int i = 0;
        for (; i <= count - Vector<double>.Count; i += Vector<double>.Count)
        {
            Vector<double> x = Vector.Load(values + i);
            sums += x * x;
        }

        double sum = Vector.Sum(sums);
        for (; i < count; i++)
        {
            sum += values[i] * values[i];
        }

        return sum;
    }

    private static double SumSquares(float* values, int count)
    {
        Vector<double> sums0 = default;
        Vector<double> sums1 = default;
        int i = 0;
        for (; i <= count - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.Widen(Vector.Load(values + i), out Vector<double> low, out Vector<double> high);
            sums0 += low * low;
            sums1 += high * high;
        }

        double sum = Vector.Sum(sums0 + sums1);
        for (; i < count; i++)
        {
            sum += (double)values[i] * values[i];
        }

        return sum;
    }

    private readonly record struct State(FloatRows Rows, long Elements, nint Partial);
}

using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Engine.Kernels;

/// <summary>DoRA's norms on the CPU: W + s·B·A is formed a few rows at a time, never whole.</summary>
internal static unsafe class DoraCpu
{
    // Rows of the adapted weight held at a time; the product below runs inside a task, so each thread holds one tile.
    private const int TileRows = 16;

    public static void WeightNorm(Tensor w, Tensor a, Tensor b, float scale, bool transposed, Tensor norm)
    {
        var state = new State(w, a, b, norm, scale, transposed);
        if (w.DType == DType.F64)
        {
            Run<double>(state, norm.Shape[0]);
        }
        else
        {
            Run<float>(state, norm.Shape[0]);
        }
    }

    public static void Ratio(Tensor magnitude, Tensor norm, Tensor y)
    {
        if (y.DType == DType.F64)
        {
            TensorPrimitives.Divide<double>(magnitude.Span<double>(), norm.Span<double>(), y.Span<double>());
        }
        else
        {
            TensorPrimitives.Divide<float>(magnitude.Span<float>(), norm.Span<float>(), y.Span<float>());
        }
    }

    public static void ScaleOutputs(Tensor w, Tensor ratio, bool transposed)
    {
        if (w.DType == DType.F64)
        {
            ScaleOutputs<double>(w, ratio, transposed);
        }
        else
        {
            ScaleOutputs<float>(w, ratio, transposed);
        }
    }

    private static void ScaleOutputs<T>(Tensor w, Tensor ratio, bool transposed)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int columns = w.Shape[1];
        CpuParallel.ForRange(w.Shape[0], Math.Max(1, 16384 / Math.Max(1, columns)), (W: w, Ratio: ratio, Transposed: transposed), static (s, begin, end) =>
        {
            int width = s.W.Shape[1];
            for (long row = begin; row < end; row++)
            {
                var values = new Span<T>((T*)s.W.Pointer + (row * width), width);
                if (s.Transposed)
                {
                    TensorPrimitives.Multiply(values, s.Ratio.Span<T>(), values);
                }
                else
                {
                    TensorPrimitives.Multiply(values, s.Ratio.Span<T>()[(int)row], values);
                }
            }
        });
    }

    private static void Run<T>(State state, int rows)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        CpuParallel.ForRange(rows, TileRows, state, static (s, begin, end) => Tile<T>(s, (int)begin, (int)(end - begin)));

    private static void Tile<T>(State s, int begin, int count)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int k = s.A.Shape[1];
        int rank = s.A.Shape[0];
        using ScratchBuffer<T> tile = Scratch.Rent<T>((long)count * k);
        LoadRows(s, begin, count, k, tile.Pointer);
        CpuGemm.Run(
            false, false, count, k, rank, T.CreateTruncating(s.Scale), (T*)s.B.Pointer + ((long)begin * rank), rank, (T*)s.A.Pointer, k, T.One, tile.Pointer, k);
        for (int i = 0; i < count; i++)
        {
            // The library's norm sums in another order once its code is recompiled; the bits of a step must not depend on that.
            ((T*)s.Norm.Pointer)[begin + i] = T.Sqrt(RowSum.Of(default(SquareTerm), tile.Pointer + ((long)i * k), null, k));
        }
    }

    private static void LoadRows<T>(State s, int begin, int count, int k, T* tile)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!s.Transposed)
        {
            for (int i = 0; i < count; i++)
            {
                FloatConvert.Load(
                    s.W.DType, (byte*)s.W.Pointer + ((begin + i) * s.W.Strides[0] * s.W.DType.Size()), k, tile + ((long)i * k));
            }

            return;
        }

        using ScratchBuffer<T> column = Scratch.Rent<T>(count);
        long stride = s.W.Strides[0];
        for (int c = 0; c < k; c++)
        {
            FloatConvert.Load(
                s.W.DType, (byte*)s.W.Pointer + (((c * stride) + begin) * s.W.DType.Size()), count, column.Pointer);
            for (int i = 0; i < count; i++)
            {
                tile[((long)i * k) + c] = column.Pointer[i];
            }
        }
    }

    private readonly struct SquareTerm : ITerm
    {
        public Vector<T> Invoke<T>(Vector<T> a, Vector<T> b)
            where T : unmanaged, IFloatingPointIeee754<T> => a * a;
    }

    private readonly record struct State(Tensor W, Tensor A, Tensor B, Tensor Norm, float Scale, bool Transposed);
}

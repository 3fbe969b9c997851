using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class CrossEntropyCpu
{
    public static void Forward(RowMatrix logits, Tensor labels, Tensor losses, RowMatrix dLogits, double gradScale)
    {
        CheckLabels(labels, logits.Columns);
        if (logits.DType == DType.F64)
        {
            Run<double>(logits, labels, losses, dLogits, gradScale);
        }
        else
        {
            Run<float>(logits, labels, losses, dLogits, gradScale);
        }
    }

    private static void CheckLabels(Tensor labels, int vocabulary)
    {
        ReadOnlySpan<int> values = labels.Span<int>();
        for (int row = 0; row < values.Length; row++)
        {
            if ((uint)values[row] >= (uint)vocabulary && values[row] != CrossEntropy.IgnoredLabel)
            {
                throw new ArgumentOutOfRangeException(
                    nameof(labels),
                    values[row],
                    $"CrossEntropy.Forward: label {values[row]} of row {row} is neither from 0 to {vocabulary - 1} nor {CrossEntropy.IgnoredLabel}");
            }
        }
    }

    private static void Run<T>(RowMatrix logits, Tensor labels, Tensor losses, RowMatrix dLogits, double gradScale)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var state = new State
        {
            Logits = new FloatRows(logits),
            Gradient = dLogits.Exists ? new FloatRows(dLogits) : default,
            Labels = labels.Pointer,
            Losses = losses.Pointer,
            Width = logits.Columns,
            Stride = logits.Stride,
            GradientStride = dLogits.Stride,
            GradScale = gradScale,
        };
        CpuParallel.ForRange(logits.Rows, RowLoop.Grain(state.Width), state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(2 * RowLoop.Block);
            for (long row = begin; row < end; row++)
            {
                Row(s, row, scratch.Pointer);
            }
        });
    }

    private static void Row<T>(in State s, long row, T* scratch)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int label = ((int*)s.Labels)[row];
        long start = row * s.Stride;
        long target = row * s.GradientStride;
        if (label == CrossEntropy.IgnoredLabel)
        {
            ((T*)s.Losses)[row] = T.Zero;
            if (s.Gradient.Exists)
            {
                new Span<byte>(s.Gradient.Address(target), checked(s.Width * s.Gradient.DType.Size())).Clear();
            }

            return;
        }

        // One pass for maximum and sum: what was summed before a new maximum is scaled to it (Milakov and Gimelshein,
        // 2018, arXiv:1805.02867), block by block instead of element by element.
        double max = double.NegativeInfinity;
        double sum = 0;
        for (int i = 0; i < s.Width; i += RowLoop.Block)
        {
            int count = Math.Min(RowLoop.Block, s.Width - i);
            T* x = s.Logits.Read(start + i, count, scratch);
            var blockMax = double.CreateChecked(RowSum.Max(x, count));
            if (double.IsNegativeInfinity(blockMax))
            {
                // Nothing to add, and −∞ − (−∞) would be NaN.
                continue;
            }

            // Not "greater", so that NaN gets through.
            if (!(blockMax <= max))
            {
                sum *= Math.Exp(max - blockMax);
                max = blockMax;
            }

            sum += double.CreateChecked(SumOfExp(x, T.CreateChecked(max), count));
        }

        T labelLogit = *s.Logits.Read(start + label, 1, scratch);
        ((T*)s.Losses)[row] = T.CreateChecked(max - double.CreateChecked(labelLogit) + Math.Log(sum));
        if (s.Gradient.Exists)
        {
            Gradient(s, start, target, label, max, s.GradScale / sum, scratch);
        }
    }

    // Σ exp(x − max), two accumulators: the exponential, not the addition, is what takes time.
    private static T SumOfExp<T>(T* x, T max, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int width = Vector<T>.Count;
        var maxima = new Vector<T>(max);
        Vector<T> even = default;
        Vector<T> odd = default;
        int i = 0;
        for (; i <= count - (2 * width); i += 2 * width)
        {
            even += VectorMath.Exp(Vector.Load(x + i) - maxima);
            odd += VectorMath.Exp(Vector.Load(x + i + width) - maxima);
        }

        while (i < count)
        {
            int rest = Math.Min(width, count - i);
            Vector<T> terms = VectorMath.Exp(ElementLoop.Partial(x + i, rest) - maxima);
            even += ElementLoop.Partial((T*)&terms, rest);
            i += rest;
        }

        return Vector.Sum(even + odd);
    }

    private static void Gradient<T>(in State s, long start, long target, int label, double max, double factor, T* scratch)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (int i = 0; i < s.Width; i += RowLoop.Block)
        {
            int count = Math.Min(RowLoop.Block, s.Width - i);
            T* x = s.Logits.Read(start + i, count, scratch);
            T* gradient = s.Gradient.Target(target + i, scratch + RowLoop.Block);
            ElementLoop.Map(new ScaledExp(new Constant(max), new Constant(factor)), x, null, null, gradient, null, count);
            if (label >= i && label < i + count)
            {
                gradient[label - i] -= T.CreateChecked(s.GradScale);
            }

            s.Gradient.Write(gradient, target + i, count);
        }
    }

    /// <summary>exp(x − max)·factor</summary>
    private readonly struct ScaledExp(Constant max, Constant factor) : IElementOp
    {
        public static int Inputs => 1;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = VectorMath.Exp(a - max.Vector<T>()) * factor.Vector<T>();
            z = default;
        }
    }

    private struct State
    {
        public FloatRows Logits;
        public FloatRows Gradient;
        public nint Labels;
        public nint Losses;
        public int Width;
        public long Stride;
        public long GradientStride;
        public double GradScale;
    }
}

using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class DropoutCpu
{
    public static void Apply(Tensor x, float p, DropoutKey key, Tensor y)
    {
        if (x.DType == DType.F64)
        {
            Run<double>(x, p, key, y);
        }
        else
        {
            Run<float>(x, p, key, y);
        }
    }

    private static void Run<T>(Tensor x, float p, DropoutKey key, Tensor y)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var state = new State
        {
            X = new FloatRows(x),
            Y = new FloatRows(y),
            Key = key.Step is { } step ? new DropoutKey(key.Seed, key.Stream + ((ulong)step.Span<long>()[0] << 16)) : key,
            Threshold = Dropout.Threshold(p),
            Scale = 1.0 / (1.0 - p),
        };

        // Chunks and blocks begin at multiples of four elements, whole counters.
        CpuParallel.ForRange(x.Elements, RowLoop.ElementGrain, state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(2 * RowLoop.Block);
            using ScratchBuffer<uint> words = Scratch.Rent<uint>(RowLoop.Block);
            for (long i = begin; i < end; i += RowLoop.Block)
            {
                int count = (int)Math.Min(RowLoop.Block, end - i);
                Philox.Fill(s.Key.Seed, s.Key.Stream, (ulong)i / 4, (count + 3) / 4, words.Pointer);
                T* from = s.X.Read(i, count, scratch.Pointer);
                T* to = s.Y.Target(i, scratch.Pointer + RowLoop.Block);
                Keep(from, words.Pointer, s.Threshold, T.CreateChecked(s.Scale), to, count);
                s.Y.Write(to, i, count);
            }
        });
    }

    private static void Keep<T>(T* x, uint* words, uint threshold, T scale, T* y, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int i = 0;
        if (typeof(T) == typeof(float))
        {
            var thresholds = new Vector<uint>(threshold);
            var scales = new Vector<T>(scale);
            for (; i <= count - Vector<uint>.Count; i += Vector<uint>.Count)
            {
                Vector<uint> keep = Vector.GreaterThanOrEqual(Vector.Load(words + i), thresholds);
                Vector.Store(Vector.ConditionalSelect(keep.As<uint, T>(), Vector.Load(x + i) * scales, Vector<T>.Zero), y + i);
            }
        }

        for (; i < count; i++)
        {
            y[i] = words[i] >= threshold ? x[i] * scale : T.Zero;
        }
    }

    private struct State
    {
        public FloatRows X;
        public FloatRows Y;
        public DropoutKey Key;
        public uint Threshold;
        public double Scale;
    }
}

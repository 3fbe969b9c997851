using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>AdamW on the CPU: all slots are cut into chunks of one size and updated in one parallel loop.</summary>
internal static unsafe class AdamWCpu
{
    /// <summary>The arguments have been checked.</summary>
    public static void Step(IReadOnlyList<AdamWSlot> slots, in AdamWStep step)
    {
        using ScratchBuffer<SlotRows> rows = Scratch.Rent<SlotRows>(slots.Count);
        int chunks = 0;
        for (int i = 0; i < slots.Count; i++)
        {
            AdamWSlot slot = slots[i];
            rows.Pointer[i] = new SlotRows
            {
                Parameter = new FloatRows(slot.Parameter),
                Gradient = new FloatRows(slot.Gradient),
                FirstMoment = new FloatRows(slot.FirstMoment),
                SecondMoment = new FloatRows(slot.SecondMoment),
                Master = FloatRows.Optional(slot.Master),
                Elements = slot.Parameter.Elements,
                FirstChunk = chunks,
            };
            chunks = checked(chunks + CpuParallel.ChunkCount(slot.Parameter.Elements, RowLoop.ElementGrain));
        }

        CpuParallel.For(chunks, new State(rows.Pointer, slots.Count, step), static (state, chunk) =>
        {
            ref SlotRows slot = ref state.Slots[Find(state.Slots, state.Count, chunk)];
            long begin = (chunk - slot.FirstChunk) * RowLoop.ElementGrain;
            long end = Math.Min(begin + RowLoop.ElementGrain, slot.Elements);
            if (slot.Parameter.DType == DType.F64)
            {
                Update(in slot, begin, end, new AdamWCoefficients<double>(state.Step));
            }
            else
            {
                Update(in slot, begin, end, new AdamWCoefficients<float>(state.Step));
            }
        });
    }

    // The last slot whose first chunk is at or before this one; empty slots share theirs with the next and are passed over.
    private static int Find(SlotRows* slots, int count, int chunk)
    {
        int low = 0;
        int high = count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (slots[middle].FirstChunk <= chunk)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return low;
    }

    private static void Update<T>(in SlotRows slot, long begin, long end, in AdamWCoefficients<T> c)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        using ScratchBuffer<T> buffer = Scratch.Rent<T>(2 * RowLoop.Block);
        FloatRows source = slot.Master.Exists ? slot.Master : slot.Parameter;
        for (long at = begin; at < end; at += RowLoop.Block)
        {
            int count = (int)Math.Min(RowLoop.Block, end - at);
            T* p = source.Read(at, count, buffer.Pointer);
            T* g = slot.Gradient.Read(at, count, buffer.Pointer + RowLoop.Block);
            Update(p, g, (T*)slot.FirstMoment.Address(at), (T*)slot.SecondMoment.Address(at), count, in c);
            source.Write(p, at, count);
            if (slot.Master.Exists)
            {
                slot.Parameter.Write(p, at, count);
            }
        }
    }

    private static void Update<T>(T* p, T* g, T* m, T* v, int count, in AdamWCoefficients<T> c)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int width = Vector<T>.Count;
        int i = 0;
        for (; i <= count - width; i += width)
        {
            Vector<T> gradient = Vector.Load(g + i) * c.GradientScale;
            Vector<T> mean = Vector.Load(m + i);
            Vector<T> step = gradient - mean;
            mean = c.NearOld ? mean + (step * c.OneMinusBeta1) : gradient - (step * c.Beta1);
            Vector<T> square = (Vector.Load(v + i) * c.Beta2) + (gradient * c.OneMinusBeta2 * gradient);
            Vector<T> denominator = (Vector.SquareRoot(square) / new Vector<T>(c.RootCorrection2)) + new Vector<T>(c.Epsilon);
            Vector<T> parameter = (Vector.Load(p + i) * c.Decay) + (mean * c.MinusStepSize / denominator);
            Vector.Store(mean, m + i);
            Vector.Store(square, v + i);
            Vector.Store(parameter, p + i);
        }

        for (; i < count; i++)
        {
            T gradient = g[i] * c.GradientScale;
            T step = gradient - m[i];
            m[i] = c.NearOld ? m[i] + (step * c.OneMinusBeta1) : gradient - (step * c.Beta1);
            v[i] = (v[i] * c.Beta2) + (gradient * c.OneMinusBeta2 * gradient);
            T denominator = (T.Sqrt(v[i]) / c.RootCorrection2) + c.Epsilon;
            p[i] = (p[i] * c.Decay) + (m[i] * c.MinusStepSize / denominator);
        }
    }

    private struct SlotRows
    {
        public FloatRows Parameter;
        public FloatRows Gradient;
        public FloatRows FirstMoment;
        public FloatRows SecondMoment;
        public FloatRows Master;
        public long Elements;
        public int FirstChunk;
    }

    private readonly record struct State(nint Pointer, int Count, AdamWStep Step)
    {
        public State(SlotRows* slots, int count, in AdamWStep step)
            : this((nint)slots, count, step)
        {
        }

        public SlotRows* Slots => (SlotRows*)Pointer;
    }
}

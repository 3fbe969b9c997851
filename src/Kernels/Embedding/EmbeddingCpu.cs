using System.Numerics;
using System.Runtime.InteropServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class EmbeddingCpu
{
    public static void Forward(Tensor ids, Tensor table, Tensor y)
    {
        CheckIds("Embedding.Forward", ids, table.Shape[0]);
        var state = new ForwardState
        {
            Ids = ids.Pointer,
            Table = table.Pointer,
            Y = y.Pointer,
            RowBytes = (long)table.Shape[1] * table.DType.Size(),
        };
        CpuParallel.ForRange(ids.Elements, RowLoop.Grain(table.Shape[1]), state, static (s, begin, end) =>
        {
            for (long n = begin; n < end; n++)
            {
                int id = ((int*)s.Ids)[n];
                byte* y = (byte*)s.Y + (n * s.RowBytes);
                if (id < 0)
                {
                    NativeMemory.Clear(y, (nuint)s.RowBytes);
                }
                else
                {
                    Buffer.MemoryCopy((byte*)s.Table + (id * s.RowBytes), y, s.RowBytes, s.RowBytes);
                }
            }
        });
    }

    public static void Backward(Tensor ids, Tensor dy, Tensor dTable)
    {
        CheckIds("Embedding.Backward", ids, dTable.Shape[0]);
        if (dy.Elements == 0)
        {
            return;
        }

        if (dy.DType == DType.F64 || dTable.DType == DType.F64)
        {
            Backward<double>(ids, dy, dTable);
        }
        else
        {
            Backward<float>(ids, dy, dTable);
        }
    }

    // Positions sorted by id, equal ids in order of position: each run of one id is one row of the table, written by
    // exactly one task, the one whose range holds the run's first entry.
    private static void Backward<T>(Tensor ids, Tensor dy, Tensor dTable)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int count = checked((int)ids.Elements);
        using ScratchBuffer<long> keys = Scratch.Rent<long>(count);
        var span = new Span<long>(keys.Pointer, count);
        ReadOnlySpan<int> values = ids.Span<int>();
        for (int n = 0; n < count; n++)
        {
            span[n] = ((long)values[n] << 32) | (uint)n;
        }

        span.Sort();

        // Those without a row come first.
        int without = 0;
        while (without < count && span[without] < 0)
        {
            without++;
        }

        var state = new BackwardState
        {
            Keys = (nint)(keys.Pointer + without),
            Count = count - without,
            Dy = new FloatRows(dy),
            Table = new FloatRows(dTable),
            Width = dTable.Shape[1],
        };
        CpuParallel.ForRange(state.Count, RowLoop.Grain(state.Width), state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(2L * s.Width);
            var keys = (long*)s.Keys;
            long i = begin;
            while (i < end && i > 0 && Id(keys[i]) == Id(keys[i - 1]))
            {
                i++;
            }

            while (i < end)
            {
                int id = Id(keys[i]);
                long row = (long)id * s.Width;
                T* before = s.Table.Read(row, s.Width, scratch.Pointer);
                T* sum = s.Table.Target(row, scratch.Pointer);
                for (; i < s.Count && Id(keys[i]) == id; i++)
                {
                    T* dy = s.Dy.Read((keys[i] & 0xFFFFFFFF) * s.Width, s.Width, scratch.Pointer + s.Width);
                    ElementLoop.Map(default(ElementwiseCpu.AddOp), before, dy, null, sum, null, s.Width);
                }

                s.Table.Write(sum, row, s.Width);
            }
        });
    }

    private static int Id(long key) => (int)(key >> 32);

    private static void CheckIds(string op, Tensor ids, int rows)
    {
        ReadOnlySpan<int> values = ids.Span<int>();
        int bad = values.IndexOfAnyInRange(rows, int.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(ids), values[bad], $"{op}: id {values[bad]} at position {bad} is outside the table of {rows} rows");
        }
    }

    private struct ForwardState
    {
        public nint Ids;
        public nint Table;
        public nint Y;
        public long RowBytes;
    }

    private struct BackwardState
    {
        public nint Keys;
        public long Count;
        public FloatRows Dy;
        public FloatRows Table;
        public int Width;
    }
}

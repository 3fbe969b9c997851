using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>On the CPU: <see cref="LowRankCpu"/> for each run of neighbouring rows that use one adapter.</summary>
internal static unsafe class GroupedLowRankCpu
{
    // A run with less work than this is faster on one core than spread over several.
    private const long SmallRunFlops = 1 << 20;

    /// <summary>The arguments have been checked. Small runs go side by side, large ones one after the other on all cores.</summary>
    public static void Forward(RowMatrix x, AdapterRows rows, AdapterTable table, RowMatrix y, RowMatrix saved)
    {
        ReadOnlySpan<int> indices = Indices(rows, table);
        using ScratchBuffer<Call> calls = Scratch.Rent<Call>(indices.Length);
        int small = 0;
        int tokens = indices.Length == 0 ? 0 : x.Rows / indices.Length;
        for (int start = 0; Next(indices, table, ref start, out int end, out GroupedAdapter adapter); start = end)
        {
            (int first, int count) = (start * tokens, (end - start) * tokens);
            RowMatrix a = RowMatrix.Of("", adapter.A, adapter.A);
            var call = new Call(
                x.Slice(first, count), a, RowMatrix.Of("", adapter.B, adapter.B), adapter.Scale, y.Slice(first, count), Sums(saved, first, count, a.Rows));
            if (2L * count * a.Rows * (x.Columns + y.Columns) < SmallRunFlops)
            {
                calls.Pointer[small++] = call;
            }
            else
            {
                LowRankCpu.Forward(call.X, call.A, call.B, call.Scale, call.Y, call.Saved);
            }
        }

        CpuParallel.For(small, (nint)calls.Pointer, static (pointer, i) =>
        {
            Call call = ((Call*)pointer)[i];
            LowRankCpu.Forward(call.X, call.A, call.B, call.Scale, call.Y, call.Saved);
        });
    }

    /// <summary>The arguments have been checked. The runs go one after the other: two may add to one gradient.</summary>
    public static void Backward(
        RowMatrix dy, RowMatrix x, AdapterRows rows, AdapterTable table, RowMatrix saved, RowMatrix dx, ReadOnlySpan<GroupedGradient> gradients)
    {
        ReadOnlySpan<int> indices = Indices(rows, table);
        int tokens = indices.Length == 0 ? 0 : x.Rows / indices.Length;
        for (int start = 0; Next(indices, table, ref start, out int end, out GroupedAdapter adapter); start = end)
        {
            (int first, int count) = (start * tokens, (end - start) * tokens);
            GroupedGradient gradient = gradients.IsEmpty ? default : gradients[indices[start]];
            RowMatrix a = RowMatrix.Of("", adapter.A, adapter.A);
            LowRankCpu.Backward(
                dy.Slice(first, count),
                x.Slice(first, count),
                a,
                RowMatrix.Of("", adapter.B, adapter.B),
                Sums(saved, first, count, a.Rows),
                adapter.Scale,
                dx.Exists ? dx.Slice(first, count) : default,
                gradient.A is null ? default : RowMatrix.Of("", gradient.A, gradient.A),
                gradient.B is null ? default : RowMatrix.Of("", gradient.B, gradient.B));
        }
    }

    private static ReadOnlySpan<int> Indices(AdapterRows rows, AdapterTable table)
    {
        ReadOnlySpan<int> indices = rows.Indices.Span<int>();
        foreach (int index in indices)
        {
            if (index >= table.Count)
            {
                throw new ArgumentException($"a row has adapter {index} of a table of {table.Count}", nameof(rows));
            }
        }

        return indices;
    }

    // The next run from start on whose adapter has a layer.
    private static bool Next(ReadOnlySpan<int> indices, AdapterTable table, ref int start, out int end, out GroupedAdapter adapter)
    {
        for (; start < indices.Length; start = end)
        {
            end = start + 1;
            while (end < indices.Length && indices[end] == indices[start])
            {
                end++;
            }

            if (indices[start] >= 0 && table[indices[start]] is { } layer)
            {
                adapter = layer;
                return true;
            }
        }

        end = start;
        adapter = default;
        return false;
    }

    private static RowMatrix Sums(RowMatrix saved, int first, int count, int rank) =>
        saved.Exists ? saved.Slice(first, count).First(rank) : default;

    private readonly record struct Call(RowMatrix X, RowMatrix A, RowMatrix B, float Scale, RowMatrix Y, RowMatrix Saved);
}

namespace Engine.Kernels;

/// <summary>How the CPU kernels cut their work; the cut depends on sizes only, so results never depend on the thread count.</summary>
internal static class RowLoop
{
    /// <summary>Elements converted and computed at a time: a handful of such buffers stay in the first-level cache.</summary>
    public const int Block = 1024;

    // About 5 to 20 µs of work: below that, waking another thread costs more than it brings.
    private const long TaskElements = 16384;

    /// <summary>Elements per task of an elementwise kernel; a multiple of <see cref="Block"/>.</summary>
    public const long ElementGrain = TaskElements;

    /// <summary>Rows per task for rows of <paramref name="columns"/> elements.</summary>
    public static long Grain(long columns) => Math.Max(1, TaskElements / Math.Max(1, columns));
}

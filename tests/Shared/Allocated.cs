namespace Engine.Tests.Shared;

/// <summary>What code takes from the managed heap.</summary>
internal static class Allocated
{
    /// <summary>
    /// The fewest bytes of the calling thread in three runs. A garbage collection in the middle of a run counts the unused
    /// rest of the thread's allocation buffer as allocated; what the code itself allocates is in every run.
    /// </summary>
    public static long By(Action run)
    {
        long least = long.MaxValue;
        for (int i = 0; i < 3; i++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            run();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}

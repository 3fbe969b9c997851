using System.Runtime.InteropServices;

namespace Engine.Kernels.Cpu;

/// <summary>
/// Work space of the CPU kernels: a few native buffers for each thread, on huge pages where the system has them, that grow to the largest size
/// asked for and are kept, so a warm call allocates nothing. They are freed when the thread ends.
/// </summary>
internal sealed unsafe class CpuScratch
{
    [ThreadStatic]
    private static CpuScratch? t_current;

    private readonly nint[] _pointers = new nint[5];
    private readonly long[] _sizes = new long[5];

    ~CpuScratch()
    {
        foreach (nint pointer in _pointers)
        {
            NativeMemory.AlignedFree((void*)pointer);
        }
    }

    /// <summary>What a buffer is for; two uses that overlap in time on one thread have two slots.</summary>
    public enum Slot
    {
        /// <summary>Shared by all threads of a loop; belongs to the caller of the loop.</summary>
        Shared,

        /// <summary>A second shared buffer: partial results.</summary>
        Partial,

        /// <summary>A third: a result still to be rearranged.</summary>
        Result,

        /// <summary>A task's own packed operand.</summary>
        Operand,

        /// <summary>A task's own block of results.</summary>
        Block,
    }

    /// <summary>
    /// The current thread's buffer of at least <paramref name="count"/> elements. Contents are undefined; valid until the
    /// same slot is asked for again on this thread.
    /// </summary>
    public static T* Get<T>(Slot slot, long count)
        where T : unmanaged
    {
        CpuScratch scratch = t_current ??= new CpuScratch();
        int index = (int)slot;
        long bytes = checked(count * sizeof(T));
        if (bytes > scratch._sizes[index])
        {
            scratch.Grow(index, bytes);
        }

        return (T*)scratch._pointers[index];
    }

    private void Grow(int index, long bytes)
    {
        NativeMemory.AlignedFree((void*)_pointers[index]);
        (_pointers[index], _sizes[index]) = (0, 0);
        nuint size = ((nuint)bytes + HugePages.Size - 1) & ~(HugePages.Size - 1);
        _pointers[index] = (nint)NativeMemory.AlignedAlloc(size, HugePages.Size);
        _sizes[index] = (long)size;
        HugePages.Advise((void*)_pointers[index], size);
    }
}

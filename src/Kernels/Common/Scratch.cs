using System.Runtime.InteropServices;

namespace Engine.Kernels;

/// <summary>
/// Temporary memory of the CPU kernels: each thread keeps a stack of 64-byte aligned buffers that grow to the largest
/// request and stay, so a warm kernel allocates nothing. Rent with <c>using</c>: buffers go back in reverse order.
/// </summary>
internal static class Scratch
{
    [ThreadStatic]
    private static ScratchStack? t_stack;

    /// <summary>A buffer of at least <paramref name="count"/> elements with undefined content, of the calling thread.</summary>
    public static ScratchBuffer<T> Rent<T>(long count)
        where T : unmanaged
    {
        ScratchStack stack = t_stack ??= new ScratchStack();
        return new ScratchBuffer<T>(stack, stack.Push(checked(count * System.Runtime.CompilerServices.Unsafe.SizeOf<T>())));
    }
}

/// <summary>A rented buffer; dispose it on the thread that rented it, last rented first.</summary>
internal readonly unsafe ref struct ScratchBuffer<T>(ScratchStack stack, nint pointer)
    where T : unmanaged
{
    /// <summary>First element.</summary>
    public T* Pointer => (T*)pointer;

    public void Dispose() => stack.Pop();
}

/// <summary>One thread's buffers, indexed by nesting depth.</summary>
internal sealed unsafe class ScratchStack
{
    private const int Alignment = 64;

    private Level[] _levels = new Level[16];
    private int _depth;

    ~ScratchStack()
    {
        foreach (Level level in _levels)
        {
            NativeMemory.AlignedFree((void*)level.Pointer);
        }
    }

    public nint Push(long bytes)
    {
        if (_depth == _levels.Length)
        {
            Array.Resize(ref _levels, 2 * _levels.Length);
        }

        ref Level level = ref _levels[_depth];
        if (level.Bytes < bytes || level.Pointer == 0)
        {
            NativeMemory.AlignedFree((void*)level.Pointer);
            level = default;
            long rounded = Math.Max(4096, (bytes + Alignment - 1) / Alignment * Alignment);
            level.Pointer = (nint)NativeMemory.AlignedAlloc(checked((nuint)rounded), Alignment);
            level.Bytes = rounded;
        }

        _depth++;
        return level.Pointer;
    }

    public void Pop() => _depth--;

    private struct Level
    {
        public nint Pointer;
        public long Bytes;
    }
}

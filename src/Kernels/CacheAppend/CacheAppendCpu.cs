using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class CacheAppendCpu
{
    public static void Run(Tensor entries, Tensor cache, Tensor position)
    {
        long slot = *(int*)position.Pointer;
        int first = (int)Math.Clamp(-slot, 0, entries.Shape[1]);
        int end = (int)Math.Clamp(cache.Shape[1] - slot, first, entries.Shape[1]);
        if (first == end)
        {
            return;
        }

        using Tensor source = entries.Slice(1, first, end - first);
        using Tensor target = cache.Slice(1, (int)(slot + first), end - first);
        CopyCpu.Run(source, target);
    }
}

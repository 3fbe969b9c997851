using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Appends keys or values to a cache at a position that the device knows, so that a recorded step can be replayed while
/// the cache grows.
/// </summary>
public static class CacheAppend
{
    /// <summary>cache[b, position + t] = entries[b, t] for every row b and entry t.</summary>
    /// <param name="entries">[B, T, Hkv, D], float; strides free except that of the last dimension, which is 1.</param>
    /// <param name="cache">[B, capacity, Hkv, D], dtype and layout like <paramref name="entries"/>; does not overlap it.</param>
    /// <param name="position">I32 [1]: the slot of the first entry. Entries whose slot lies outside the cache are left out.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Run(Tensor entries, Tensor cache, Tensor position)
    {
        const string Op = "CacheAppend.Run";
        CheckLayout(Op, entries, nameof(entries));
        CheckLayout(Op, cache, nameof(cache));
        Check.SameDevice(Op, cache, entries);
        if (cache.DType != entries.DType || cache.Shape[0] != entries.Shape[0] || cache.Shape[2] != entries.Shape[2]
            || cache.Shape[3] != entries.Shape[3])
        {
            Check.Throw(
                Op, nameof(cache), $"has to be {entries.DType.Name()}[{entries.Shape[0]}, capacity, {entries.Shape[2]}, {entries.Shape[3]}]", cache);
        }

        Check.Type(Op, position, DType.I32);
        Check.Shaped(Op, position, [1]);
        Check.SameDevice(Op, position, entries);
        switch (entries.Device.Kind)
        {
            case DeviceKind.Cpu:
                CacheAppendCpu.Run(entries, cache, position);
                break;
            case DeviceKind.Cuda:
                CacheAppendCuda.Run(entries, cache, position);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, entries.Device);
        }
    }

    private static void CheckLayout(string op, Tensor tensor, string name)
    {
        Check.FloatStrided(op, tensor, name);
        Check.Rank(op, tensor, 4, name);
        if (tensor.Shape[3] > 1 && tensor.Strides[3] != 1)
        {
            Check.Throw(op, name, "has to have stride 1 in its last dimension", tensor);
        }
    }
}

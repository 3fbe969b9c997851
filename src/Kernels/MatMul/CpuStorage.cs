using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Rows between their storage type and the type the matrix product computes in.</summary>
internal static unsafe class CpuStorage
{
    /// <summary>Widens or copies <paramref name="count"/> elements; widening bf16 and f16 to float is exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load<T>(DType type, byte* source, T* destination, int count)
        where T : unmanaged
    {
        if (type == DTypeOf<T>())
        {
            new ReadOnlySpan<T>(source, count).CopyTo(new Span<T>(destination, count));
        }
        else if (type == DType.BF16)
        {
            LoadBFloat16((ushort*)source, (float*)destination, count);
        }
        else
        {
            TensorPrimitives.ConvertToSingle(new ReadOnlySpan<Half>(source, count), new Span<float>(destination, count));
        }
    }

    /// <summary>Rounds (to nearest, ties to even) or copies <paramref name="count"/> elements.</summary>
    public static void Store<T>(DType type, T* source, byte* destination, int count)
        where T : unmanaged
    {
        if (type == DTypeOf<T>())
        {
            new ReadOnlySpan<T>(source, count).CopyTo(new Span<T>(destination, count));
        }
        else if (type == DType.BF16)
        {
            float* from = (float*)source;
            var to = (BFloat16*)destination;
            for (int i = 0; i < count; i++)
            {
                to[i] = (BFloat16)from[i];
            }
        }
        else
        {
            TensorPrimitives.ConvertToHalf(new ReadOnlySpan<float>(source, count), new Span<Half>(destination, count));
        }
    }

    /// <summary>The dtype of the compute type, as a constant where it is inlined.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static DType DTypeOf<T>()
        where T : unmanaged => typeof(T) == typeof(double) ? DType.F64 : DType.F32;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void LoadBFloat16(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Load(source + i));
            (low << 16).AsSingle().Store(destination + i);
            (high << 16).AsSingle().Store(destination + i + Vector256<uint>.Count);
        }

        for (; i < count; i++)
        {
            destination[i] = BitConverter.UInt32BitsToSingle((uint)source[i] << 16);
        }
    }
}

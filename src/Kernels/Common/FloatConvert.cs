using System.Numerics;
using System.Numerics.Tensors;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Conversions between the storage dtypes and the compute types float and double. Widening is exact, narrowing rounds to
/// nearest even in one step (double to bf16 and f16 too). NaN stays NaN, overflow becomes infinity.
/// </summary>
internal static unsafe class FloatConvert
{
    /// <summary>Reads <paramref name="count"/> elements of <paramref name="dtype"/> into float or double.</summary>
    public static void Load<T>(DType dtype, void* source, int count, T* destination)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            var to = (float*)destination;
            switch (dtype)
            {
                case DType.F32:
                    new ReadOnlySpan<float>(source, count).CopyTo(new Span<float>(to, count));
                    return;
                case DType.F64:
                    DoubleToSingle((double*)source, to, count);
                    return;
                case DType.BF16:
                    BFloat16ToSingle((ushort*)source, to, count);
                    return;
                case DType.F16:
                    TensorPrimitives.ConvertToSingle(new ReadOnlySpan<Half>(source, count), new Span<float>(to, count));
                    return;
            }
        }
        else if (typeof(T) == typeof(double))
        {
            var to = (double*)destination;
            switch (dtype)
            {
                case DType.F32:
                    SingleToDouble((float*)source, to, count);
                    return;
                case DType.F64:
                    new ReadOnlySpan<double>(source, count).CopyTo(new Span<double>(to, count));
                    return;
                case DType.BF16:
                    for (int i = 0; i < count; i++)
                    {
                        to[i] = ((BFloat16*)source)[i];
                    }

                    return;
                case DType.F16:
                    for (int i = 0; i < count; i++)
                    {
                        to[i] = (double)((Half*)source)[i];
                    }

                    return;
            }
        }

        throw new NotSupportedException($"no conversion from {dtype.Name()} to {typeof(T).Name}");
    }

    /// <summary>Rounds <paramref name="count"/> float or double values to <paramref name="dtype"/>.</summary>
    public static void Store<T>(T* source, DType dtype, void* destination, int count)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            var from = (float*)source;
            switch (dtype)
            {
                case DType.F32:
                    new ReadOnlySpan<float>(from, count).CopyTo(new Span<float>(destination, count));
                    return;
                case DType.F64:
                    SingleToDouble(from, (double*)destination, count);
                    return;
                case DType.BF16:
                    SingleToBFloat16(from, (ushort*)destination, count);
                    return;
                case DType.F16:
                    TensorPrimitives.ConvertToHalf(new ReadOnlySpan<float>(from, count), new Span<Half>(destination, count));
                    return;
            }
        }
        else if (typeof(T) == typeof(double))
        {
            var from = (double*)source;
            switch (dtype)
            {
                case DType.F32:
                    DoubleToSingle(from, (float*)destination, count);
                    return;
                case DType.F64:
                    new ReadOnlySpan<double>(from, count).CopyTo(new Span<double>(destination, count));
                    return;
                case DType.BF16:
                    for (int i = 0; i < count; i++)
                    {
                        ((BFloat16*)destination)[i] = (BFloat16)RoundToOdd(from[i]);
                    }

                    return;
                case DType.F16:
                    for (int i = 0; i < count; i++)
                    {
                        ((Half*)destination)[i] = (Half)from[i];
                    }

                    return;
            }
        }

        throw new NotSupportedException($"no conversion from {typeof(T).Name} to {dtype.Name()}");
    }

    private static void BFloat16ToSingle(ushort* source, float* destination, int count)
    {
        int i = 0;
        for (; i <= count - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector.Widen(Vector.Load(source + i), out Vector<uint> low, out Vector<uint> high);
            Vector.Store(low << 16, (uint*)destination + i);
            Vector.Store(high << 16, (uint*)destination + i + Vector<uint>.Count);
        }

        for (; i < count; i++)
        {
            destination[i] = BFloat16.FromBits(source[i]);
        }
    }

    private static void SingleToBFloat16(float* source, ushort* destination, int count)
    {
        int i = 0;
        for (; i <= count - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector<uint> low = RoundToBFloat16(Vector.Load((uint*)source + i));
            Vector<uint> high = RoundToBFloat16(Vector.Load((uint*)source + i + Vector<uint>.Count));
            Vector.Store(Vector.Narrow(low, high), destination + i);
        }

        for (; i < count; i++)
        {
            destination[i] = ((BFloat16)source[i]).Bits;
        }
    }

    // The same arithmetic as the scalar conversion of BFloat16.
    private static Vector<uint> RoundToBFloat16(Vector<uint> bits)
    {
        Vector<uint> upper = bits >>> 16;
        Vector<uint> rounded = (bits + new Vector<uint>(0x7FFF) + (upper & Vector<uint>.One)) >>> 16;
        Vector<uint> isNaN = Vector.GreaterThan(bits & new Vector<uint>(0x7FFFFFFF), new Vector<uint>(0x7F800000));
        return Vector.ConditionalSelect(isNaN, upper | new Vector<uint>(0x0040), rounded);
    }

    private static void SingleToDouble(float* source, double* destination, int count)
    {
        for (int i = 0; i < count; i++)
        {
            destination[i] = source[i];
        }
    }

    private static void DoubleToSingle(double* source, float* destination, int count)
    {
        for (int i = 0; i < count; i++)
        {
            destination[i] = (float)source[i];
        }
    }

    /// <summary>
    /// Double to float, inexact results to the neighbour with an odd last bit: rounding that to a narrower type then
    /// gives what rounding the double in one step would (Boldo and Melquiond, Emulation of FMA, 2008, theorem 3).
    /// </summary>
    private static float RoundToOdd(double value)
    {
        var nearest = (float)value;
        if (nearest == value || double.IsNaN(value))
        {
            return nearest;
        }

        int bits = BitConverter.SingleToInt32Bits(nearest);
        if (Math.Abs((double)nearest) > Math.Abs(value))
        {
            bits--;
        }

        return BitConverter.Int32BitsToSingle(bits | 1);
    }
}

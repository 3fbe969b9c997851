using System.Numerics;
using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <summary>A term of a sum over one row, on vectors of float or double.</summary>
internal interface ITerm
{
    /// <summary>Computes one vector of terms; lanes are independent.</summary>
    Vector<T> Invoke<T>(Vector<T> a, Vector<T> b)
        where T : unmanaged, IFloatingPointIeee754<T>;
}

/// <summary>
/// Sums over one row in a fixed order: four accumulators of one vector each, added pairwise at the end. The order depends
/// on the length alone, not on the row's address.
/// </summary>
internal static unsafe class RowSum
{
    /// <summary>Most additions in sequence for <paramref name="count"/> terms, with vectors of 128 bits or more.</summary>
    public static double Depth(long count, Tensors.DType dtype) =>
        (count / (4 * (dtype == Tensors.DType.F64 ? 2 : 4))) + 8;

    /// <summary>Σ term(a[i], b[i]); <paramref name="b"/> may be null for terms of one argument.</summary>
    public static T Of<T, TTerm>(TTerm term, T* a, T* b, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TTerm : unmanaged, ITerm
    {
        int width = Vector<T>.Count;
        Vector<T> s0 = default;
        Vector<T> s1 = default;
        Vector<T> s2 = default;
        Vector<T> s3 = default;
        int i = 0;
        for (; i <= count - (4 * width); i += 4 * width)
        {
            s0 += Term(term, a, b, i);
            s1 += Term(term, a, b, i + width);
            s2 += Term(term, a, b, i + (2 * width));
            s3 += Term(term, a, b, i + (3 * width));
        }

        for (; i <= count - width; i += width)
        {
            s0 += Term(term, a, b, i);
        }

        if (i < count)
        {
            Vector<T> rest = term.Invoke(
                ElementLoop.Partial(a + i, count - i),
                b == null ? default : ElementLoop.Partial(b + i, count - i));

            // A term of zeros need not be zero.
            s1 += ElementLoop.Partial((T*)&rest, count - i);
        }

        return Vector.Sum((s0 + s1) + (s2 + s3));
    }

    /// <summary>The largest element; NaN when one is NaN; −∞ for none.</summary>
    public static T Max<T>(T* a, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int width = Vector<T>.Count;
        Vector<T> first = new(T.NegativeInfinity);
        Vector<T> second = first;
        Vector<T> ordered = Vector.Equals(first, first);
        int i = 0;
        for (; i <= count - (2 * width); i += 2 * width)
        {
            // The native maximum is one instruction but may drop NaN, which is therefore looked for apart.
            Vector<T> x = Vector.Load(a + i);
            Vector<T> z = Vector.Load(a + i + width);
            first = Vector.MaxNative(first, x);
            second = Vector.MaxNative(second, z);
            ordered &= Vector.Equals(x, x) & Vector.Equals(z, z);
        }

        if (Vector.EqualsAny(ordered, Vector<T>.Zero))
        {
            return T.NaN;
        }

        first = Vector.MaxNative(first, second);
        T result = T.NegativeInfinity;
        for (int lane = 0; lane < width; lane++)
        {
            result = T.Max(result, first[lane]);
        }

        for (; i < count; i++)
        {
            result = T.Max(result, a[i]);
        }

        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<T> Term<T, TTerm>(TTerm term, T* a, T* b, int i)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TTerm : unmanaged, ITerm =>
        term.Invoke(Vector.Load(a + i), b == null ? default : Vector.Load(b + i));
}

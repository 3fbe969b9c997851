using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Engine.Kernels.Cpu;

/// <summary>
/// SIMD arithmetic that is generic over <see cref="float"/> and <see cref="double"/>: the type tests fold away when the
/// method is compiled for one of the two.
/// </summary>
internal static class Vector512Math
{
    /// <summary>Below this the single precision exponential returns 0: e⁻⁸⁶ ≈ 4.5·10⁻³⁸ is near the smallest normal number.</summary>
    public const float SmallestExponent = -86f;

    /// <summary>x·y + z, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<T> Fma<T>(Vector512<T> x, Vector512<T> y, Vector512<T> z)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return Vector512.FusedMultiplyAdd(x.As<T, float>(), y.As<T, float>(), z.As<T, float>()).As<float, T>();
        }

        return Vector512.FusedMultiplyAdd(x.As<T, double>(), y.As<T, double>(), z.As<T, double>()).As<double, T>();
    }

    /// <summary>x·y + z, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<T> Fma<T>(Vector256<T> x, Vector256<T> y, Vector256<T> z)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            return Vector256.FusedMultiplyAdd(x.As<T, float>(), y.As<T, float>(), z.As<T, float>()).As<float, T>();
        }

        return Vector256.FusedMultiplyAdd(x.As<T, double>(), y.As<T, double>(), z.As<T, double>()).As<double, T>();
    }

    /// <summary>
    /// eˣ. In single precision within 2·10⁻⁷ relative for −86 ≤ x ≤ 88, and 0 below −86 (also for −∞); a NaN without payload
    /// stays NaN. In double precision that of <see cref="VectorMath"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<T> Exp<T>(Vector512<T> x)
        where T : unmanaged =>
        typeof(T) == typeof(float)
            ? Exp(x.As<T, float>()).As<float, T>()
            : ExpDouble(x.As<T, double>()).As<double, T>();

    // x = n·ln 2 + r with |r| ≤ ln(2)/2 = 0.3466, so eˣ = 2ⁿ·eʳ. The Taylor polynomial of degree 7 leaves out
    // r⁸/8! < 5.2·10⁻⁹, a tenth of half a unit in the last place. n comes from adding 1.5·2²³, which leaves n as a two's
    // complement integer in the low bits; shifted by 23 it adds to the exponent of eʳ.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Exp(Vector512<float> x)
    {
        const float RoundToInteger = 12582912f;
        Vector512<float> bounded = Vector512.MinNative(Vector512.Create(88f), x);
        Vector512<float> shifted = Vector512.FusedMultiplyAdd(
            bounded, Vector512.Create(1.44269504f), Vector512.Create(RoundToInteger));
        Vector512<float> n = shifted - Vector512.Create(RoundToInteger);

        // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
        Vector512<float> r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693145752f), bounded);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-1.42860677e-6f), r);
        Vector512<float> p = Vector512.Create(1f / 5040);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 720));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 120));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 24));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f / 6));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(0.5f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1f));
        Vector512<float> result = (p.AsInt32() + (shifted.AsInt32() << 23)).AsSingle();
        return Vector512.ConditionalSelect(
            Vector512.LessThan(x, Vector512.Create(SmallestExponent)), Vector512<float>.Zero, result);
    }

    // In the vectors that VectorMath works in: f64 serves gradient checks.
    private static Vector512<double> ExpDouble(Vector512<double> x)
    {
        Span<double> lanes = stackalloc double[Vector512<double>.Count];
        x.CopyTo(lanes);
        for (int i = 0; i < lanes.Length; i += Vector<double>.Count)
        {
            VectorMath.Exp(new Vector<double>(lanes[i..])).CopyTo(lanes[i..]);
        }

        return Vector512.Create<double>(lanes);
    }
}

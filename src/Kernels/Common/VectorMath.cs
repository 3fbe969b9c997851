using System.Numerics;
using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <summary>
/// Exponential, logistic and normal distribution functions on vectors of float or double. Error bounds are in units of
/// the type's unit roundoff u and hold for every finite argument.
/// </summary>
internal static class VectorMath
{
    /// <summary>
    /// Bound of <see cref="Exp{T}"/>'s relative error in u. Float: the reduced argument is off by at most 0.35·2u, the
    /// polynomial by 0.05u (fit) and 0.6u (its roundings below the last), its last addition by u. Double: the argument by
    /// 0.25u, the polynomial by 0.04u (what the series leaves out) and 0.4u, its last addition by u.
    /// </summary>
    public const double ExpRoundings = 3;

    /// <summary>A vector with the same number in each lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Create<T>(double value)
        where T : unmanaged, IFloatingPointIeee754<T> => new(T.CreateTruncating(value));

    /// <summary>x·y + z, fused where the processor does that at full speed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> MultiplyAdd<T>(Vector<T> x, Vector<T> y, Vector<T> z)
        where T : unmanaged =>
        typeof(T) == typeof(float)
            ? Vector.MultiplyAddEstimate(x.As<T, float>(), y.As<T, float>(), z.As<T, float>()).As<float, T>()
            : Vector.MultiplyAddEstimate(x.As<T, double>(), y.As<T, double>(), z.As<T, double>()).As<double, T>();

    /// <summary>eˣ with relative error at most <see cref="ExpRoundings"/>·u; subnormal results are rounded once more.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Exp<T>(Vector<T> x)
        where T : unmanaged, IFloatingPointIeee754<T> =>
        typeof(T) == typeof(float) ? ExpSingle(x.As<T, float>()).As<float, T>() : ExpDouble(x.As<T, double>()).As<double, T>();

    /// <summary>
    /// The logistic function 1 ∕ (1 + e⁻ˣ) and 1 minus it, neither by subtraction: with z = e^−|x| they are 1 ∕ (1 + z) and
    /// z ∕ (1 + z) in the order of x's sign. Relative error at most (<see cref="ExpRoundings"/> + 2)·u.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Sigmoid<T>(Vector<T> x, out Vector<T> complement)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        Vector<T> z = Exp(-Vector.Abs(x));
        Vector<T> large = Vector<T>.One / (Vector<T>.One + z);
        Vector<T> small = z * large;
        Vector<T> negative = Vector.LessThan(x, Vector<T>.Zero);
        complement = Vector.ConditionalSelect(negative, large, small);
        return Vector.ConditionalSelect(negative, small, large);
    }

    /// <summary>
    /// The standard normal distribution function Φ(x), and its density φ(x). Absolute error of Φ: float 6u, double 40u.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Normal<T>(Vector<T> x, out Vector<T> density)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (typeof(T) == typeof(float))
        {
            Vector<float> single = NormalSingle(x.As<T, float>(), out Vector<float> phi);
            density = phi.As<float, T>();
            return single.As<float, T>();
        }

        density = Exp(x * x * Create<T>(-0.5)) * Create<T>(InverseSqrtTwoPi);
        return NormalDouble(x.As<T, double>(), density.As<T, double>()).As<double, T>();
    }

    private const double InverseSqrtTwoPi = 0.39894228040143267794;

    // eˣ = 2ⁿ·eʳ, n = round(x ∕ ln 2), |r| ≤ ln 2 ∕ 2, and eʳ ≈ 1 + r + r²·Q(r); Q is the degree-4 minimax polynomial of
    // the relative error (Remez' algorithm; 3.1e−9).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<float> ExpSingle(Vector<float> x)
    {
        // Beyond these the result is 0 or infinity whatever x is, and n stays in a range that two factors can express.
        Vector<float> clamped = Vector.ClampNative(x, new Vector<float>(-104.5f), new Vector<float>(89f));

        // Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
        var magic = new Vector<float>(12582912f);
        Vector<float> shifted = Vector.MultiplyAddEstimate(clamped, new Vector<float>(1.44269504f), magic);
        Vector<float> n = shifted - magic;
        Vector<int> exponent = shifted.As<float, int>() - magic.As<float, int>();

        // ln 2 in two parts; the first has 15 significant bits, so its product with n (8 bits) is exact.
        Vector<float> r = Vector.MultiplyAddEstimate(n, new Vector<float>(-0.693145752f), clamped);
        r = Vector.MultiplyAddEstimate(n, new Vector<float>(-1.42860677e-6f), r);

        Vector<float> q = Vector.MultiplyAddEstimate(new Vector<float>(0.0013814538f), r, new Vector<float>(0.0083687451f));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<float>(0.041668391f));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<float>(0.16666520f));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<float>(0.49999993f));
        Vector<float> e = Vector.MultiplyAddEstimate(q * r, r, r) + Vector<float>.One;

        // 2ⁿ as two factors, because n = 128 and n < −126 are results' exponents but not a float's.
        Vector<int> half = exponent >> 1;
        Vector<int> bias = new(127);
        Vector<float> first = ((half + bias) << 23).As<int, float>();
        Vector<float> second = ((exponent - half + bias) << 23).As<int, float>();
        Vector<float> result = e * first * second;

        // The clamp may lose NaN.
        return Vector.ConditionalSelect(Vector.Equals(x, x), result, x);
    }

    // The same in double precision, with the Taylor series to degree 13: it leaves out r¹⁴ ∕ 14! < 4.2e−18. Not the
    // library's Vector.Exp: its precompiled code multiplies and adds apart, and the code that replaces it after some calls
    // fuses them, so that the same argument gives other bits later in the same process.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<double> ExpDouble(Vector<double> x)
    {
        Vector<double> clamped = Vector.ClampNative(x, new Vector<double>(-746), new Vector<double>(710));
        var magic = new Vector<double>(6755399441055744);
        Vector<double> shifted = Vector.MultiplyAddEstimate(clamped, new Vector<double>(1.4426950408889634), magic);
        Vector<double> n = shifted - magic;

        // ln 2 in two parts; the first has 33 significant bits, so its product with n (11 bits) is exact.
        Vector<double> r = Vector.MultiplyAddEstimate(n, new Vector<double>(-6.93147180369123816490e-01), clamped);
        r = Vector.MultiplyAddEstimate(n, new Vector<double>(-1.90821492927058770002e-10), r);

        var q = new Vector<double>(1.0 / 6227020800);
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 479001600));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 39916800));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 3628800));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 362880));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 40320));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 5040));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 720));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 120));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 24));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(1.0 / 6));
        q = Vector.MultiplyAddEstimate(q, r, new Vector<double>(0.5));
        Vector<double> e = Vector.MultiplyAddEstimate(q * r, r, r) + Vector<double>.One;

        // 2ⁿ as two factors, each exponent an integer in the low bits of a number near the magic one.
        Vector<double> half = Vector.MultiplyAddEstimate(n, new Vector<double>(0.5), magic);
        Vector<double> rest = (n - (half - magic)) + magic;
        Vector<long> bias = new(1023);
        Vector<double> first = ((half.As<double, long>() - magic.As<double, long>() + bias) << 52).As<long, double>();
        Vector<double> second = ((rest.As<double, long>() - magic.As<double, long>() + bias) << 52).As<long, double>();
        Vector<double> result = e * first * second;
        return Vector.ConditionalSelect(Vector.Equals(x, x), result, x);
    }

    // Φ(−a) = e^(−a²∕2)·m(a) for a ≥ 0, with m(a) ≈ t·P(t), t = 1 ∕ (1 + 0.35·a): degree-8 minimax polynomial of the
    // relative error over 0 ≤ a ≤ 14.5, where Φ(−a) leaves float's range (Remez' algorithm; 3.2e−8).
    // Error of Φ(−a) in u, relative: a²∕2 (rounding of the exponent), 3 (exp), 6 (t, P, product), 0.5 (fit); a²∕2·Φ(−a)
    // is below 0.2 and Φ(−a) at most 0.5, so at most 5 absolute, and 1 for the subtraction from 1.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<float> NormalSingle(Vector<float> x, out Vector<float> density)
    {
        Vector<float> a = Vector.Abs(x);
        Vector<float> e = ExpSingle(a * a * new Vector<float>(-0.5f));
        density = e * new Vector<float>((float)InverseSqrtTwoPi);
        Vector<float> t = Vector<float>.One / Vector.MultiplyAddEstimate(a, new Vector<float>(0.35f), Vector<float>.One);
        Vector<float> p = Vector.MultiplyAddEstimate(new Vector<float>(-0.029157910f), t, new Vector<float>(0.14403101f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(-0.25583911f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(0.15931972f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(-0.023212311f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(0.10555246f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(0.11982131f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(0.13986351f));
        p = Vector.MultiplyAddEstimate(p, t, new Vector<float>(0.13962131f));
        Vector<float> tail = e * t * p;
        return Vector.ConditionalSelect(Vector.LessThan(x, Vector<float>.Zero), tail, Vector<float>.One - tail);
    }

    // Lane by lane: f64 serves gradient checks, where accuracy matters and speed does not.
    private static Vector<double> NormalDouble(Vector<double> x, Vector<double> density)
    {
        Span<double> lanes = stackalloc double[Vector<double>.Count];
        for (int i = 0; i < lanes.Length; i++)
        {
            double a = Math.Abs(x[i]);
            double tail = a < 4 ? 0.5 - (density[i] * CentralSeries(a)) : density[i] * TailFraction(a);
            lanes[i] = x[i] < 0 ? tail : 1 - tail;
        }

        return new Vector<double>(lanes);
    }

    // (Φ(a) − ½) ∕ φ(a) = Σ a^(2k+1) ∕ (1·3·5⋯(2k+1)), all terms positive (Abramowitz and Stegun 26.2.11).
    private static double CentralSeries(double a)
    {
        double term = a;
        double sum = a;
        for (int k = 1; term > sum * 1e-17; k++)
        {
            term *= a * a / ((2 * k) + 1);
            sum += term;
        }

        return sum;
    }

    // Φ(−a) ∕ φ(a) = 1∕(a + 1∕(a + 2∕(a + 3∕(a + …)))) (Abramowitz and Stegun 26.2.14); from a = 4 on, 64 levels settle it.
    private static double TailFraction(double a)
    {
        double fraction = a;
        for (int k = 64; k > 0; k--)
        {
            fraction = a + (k / fraction);
        }

        return 1 / fraction;
    }
}

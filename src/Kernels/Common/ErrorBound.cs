using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// How far an element may be from the exact result of the stored inputs:
/// |y − exact| ≤ <paramref name="Storage"/>·|exact| + <paramref name="Underflow"/> + <paramref name="Arithmetic"/>·S,
/// where S is the sum of the magnitudes that the op adds up for the element (|exact| itself when nothing can cancel).
/// </summary>
/// <param name="Storage">Relative error of rounding the result to the storage dtype: its unit roundoff.</param>
/// <param name="Arithmetic">Relative error of the arithmetic in the compute dtype.</param>
/// <param name="Underflow">Half the distance between subnormal numbers of the storage dtype.</param>
/// <param name="Derivation">Where <paramref name="Arithmetic"/> comes from.</param>
public readonly record struct ErrorBound(double Storage, double Arithmetic, double Underflow, string Derivation)
{
    /// <summary>
    /// The bound of <paramref name="roundings"/> compute-dtype roundings in sequence followed by one rounding to storage.
    /// The standard bound n·u ∕ (1 − n·u) is taken as n·u (Higham, Accuracy and Stability of Numerical Algorithms, §3.1);
    /// n·u is far below 1 here.
    /// </summary>
    public static ErrorBound Roundings(DType dtype, double roundings, string derivation) =>
        new(UnitRoundoff(dtype), roundings * ComputeRoundoff(dtype), SubnormalRoundoff(dtype), derivation);

    /// <summary>Largest relative error of rounding to nearest: half the distance from 1 to the next number.</summary>
    /// <exception cref="ArgumentException"><paramref name="dtype"/> is not a float type.</exception>
    public static double UnitRoundoff(DType dtype) => dtype switch
    {
        DType.F32 => 1.0 / (1L << 24),
        DType.F64 => 1.0 / (1L << 53),
        DType.BF16 => 1.0 / (1L << 8),
        DType.F16 => 1.0 / (1L << 11),
        _ => throw new ArgumentException($"{dtype.Name()} is not a float type"),
    };

    /// <summary>The unit roundoff of the arithmetic: f64 for f64 tensors, f32 for every other float dtype.</summary>
    public static double ComputeRoundoff(DType dtype) =>
        UnitRoundoff(dtype == DType.F64 ? DType.F64 : DType.F32);

    /// <summary>Largest absolute error of rounding a subnormal number: half the smallest positive number.</summary>
    /// <exception cref="ArgumentException"><paramref name="dtype"/> is not a float type.</exception>
    public static double SubnormalRoundoff(DType dtype) => dtype switch
    {
        DType.F32 => double.ScaleB(1, -150),
        DType.F64 => double.Epsilon,
        DType.BF16 => double.ScaleB(1, -134),
        DType.F16 => double.ScaleB(1, -25),
        _ => throw new ArgumentException($"{dtype.Name()} is not a float type"),
    };

    /// <summary>The allowed distance for an exact value and the sum of magnitudes behind it.</summary>
    public double Allowed(double exact, double magnitude) =>
        (Storage * Math.Abs(exact)) + Underflow + (Arithmetic * Math.Max(Math.Abs(exact), magnitude));
}

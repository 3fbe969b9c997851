using System.Numerics;
using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <summary>
/// A number known only at run time, ready in both compute types: converting it inside a loop costs more than the
/// conversion, because the instruction merges into its old register and so ties each iteration to the one before.
/// </summary>
internal readonly struct Constant(double value)
{
    private readonly float _single = (float)value;
    private readonly double _wide = value;

    /// <summary>From either compute type, exactly.</summary>
    public static Constant Of<T>(T value)
        where T : unmanaged, IFloatingPointIeee754<T> => new(double.CreateTruncating(value));

    /// <summary>The number in every lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector<T> Vector<T>()
        where T : unmanaged =>
        typeof(T) == typeof(float) ? new Vector<float>(_single).As<float, T>() : new Vector<double>(_wide).As<double, T>();
}

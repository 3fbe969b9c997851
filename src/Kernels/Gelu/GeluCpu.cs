using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

internal static class GeluCpu
{
    private const double TwoSqrtTwoOverPi = 1.5957691216057307118;
    private const double Cubic = 0.044715;

    public static void Forward(Tensor x, bool tanh, Tensor y)
    {
        if (tanh)
        {
            ElementLoop.RunRows(default(TanhForward), x, null, null, y);
        }
        else
        {
            ElementLoop.RunRows(default(ExactForward), x, null, null, y);
        }
    }

    public static void Backward(Tensor dy, Tensor x, bool tanh, Tensor dx)
    {
        if (tanh)
        {
            ElementLoop.RunRows(default(TanhBackward), dy, x, null, dx);
        }
        else
        {
            ElementLoop.RunRows(default(ExactBackward), dy, x, null, dx);
        }
    }

    private readonly struct ExactForward : IElementOp
    {
        public static int Inputs => 1;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = a * VectorMath.Normal(a, out _);
            z = default;
        }
    }

    private readonly struct ExactBackward : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            Vector<T> distribution = VectorMath.Normal(b, out Vector<T> density);
            y = a * VectorMath.MultiplyAdd(b, density, distribution);
            z = default;
        }
    }

    private readonly struct TanhForward : IElementOp
    {
        public static int Inputs => 1;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            Vector<T> k = VectorMath.Create<T>(TwoSqrtTwoOverPi);
            Vector<T> w = a * VectorMath.MultiplyAdd(a * a, VectorMath.Create<T>(TwoSqrtTwoOverPi * Cubic), k);
            y = a * VectorMath.Sigmoid(w, out _);
            z = default;
        }
    }

    private readonly struct TanhBackward : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            Vector<T> k = VectorMath.Create<T>(TwoSqrtTwoOverPi);
            Vector<T> square = b * b;
            Vector<T> w = b * VectorMath.MultiplyAdd(square, VectorMath.Create<T>(TwoSqrtTwoOverPi * Cubic), k);
            Vector<T> slope = VectorMath.MultiplyAdd(square, VectorMath.Create<T>(3 * TwoSqrtTwoOverPi * Cubic), k);
            Vector<T> s = VectorMath.Sigmoid(w, out Vector<T> complement);

            // complement first: s·complement decays, so that the product with the growing b·slope stays finite.
            y = a * VectorMath.MultiplyAdd(s * complement * b, slope, s);
            z = default;
        }
    }
}

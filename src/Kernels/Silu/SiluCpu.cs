using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

internal static class SiluCpu
{
    public static void Forward(Tensor x, Tensor y) => ElementLoop.RunRows(default(ForwardOp), x, null, null, y);

    public static void Backward(Tensor dy, Tensor x, Tensor dx) => ElementLoop.RunRows(default(BackwardOp), dy, x, null, dx);

    /// <summary>silu(x) and its derivative.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<T> Value<T>(Vector<T> x, out Vector<T> derivative)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        Vector<T> s = VectorMath.Sigmoid(x, out Vector<T> complement);
        derivative = s * VectorMath.MultiplyAdd(x, complement, Vector<T>.One);
        return x * s;
    }

    private readonly struct ForwardOp : IElementOp
    {
        public static int Inputs => 1;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = Value(a, out _);
            z = default;
        }
    }

    private readonly struct BackwardOp : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            Value(b, out Vector<T> derivative);
            y = a * derivative;
            z = default;
        }
    }
}

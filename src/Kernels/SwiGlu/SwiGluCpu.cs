using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

internal static class SwiGluCpu
{
    public static void Forward(Tensor gate, Tensor up, Tensor y) =>
        ElementLoop.RunRows(default(ForwardOp), gate, up, null, y);

    public static void Backward(Tensor dy, Tensor gate, Tensor up, Tensor dGate, Tensor dUp) =>
        ElementLoop.RunRows(default(BackwardOp), dy, gate, up, dGate, dUp);

    private readonly struct ForwardOp : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = SiluCpu.Value(a, out _) * b;
            z = default;
        }
    }

    private readonly struct BackwardOp : IElementOp
    {
        public static int Inputs => 3;

        public static int Outputs => 2;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            Vector<T> value = SiluCpu.Value(b, out Vector<T> derivative);
            y = a * c * derivative;
            z = a * value;
        }
    }
}

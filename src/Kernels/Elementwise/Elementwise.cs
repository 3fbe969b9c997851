using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Sums, products and scalings, element by element or against a vector of columns. All tensors are f32, f64, bf16 or f16, and
/// contiguous; matrices may have gaps between their rows in <see cref="Add"/>, <see cref="Multiply"/> and the ops with columns; arithmetic is f32, or f64 when a tensor is f64.
/// </summary>
public static class Elementwise
{
    /// <summary>y = a + b; three tensors of one dtype and shape, matrices with gaps between their rows too; y may be a or b.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Add(Tensor a, Tensor b, Tensor y)
    {
        const string Op = "Elementwise.Add";
        Three(Op, a, b, y);
        switch (a.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.Add(a, b, y);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.Add(a, b, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, a.Device);
        }
    }

    /// <summary>y = a·b; three tensors of one dtype and shape, matrices with gaps between their rows too; y may be a or b.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Multiply(Tensor a, Tensor b, Tensor y)
    {
        const string Op = "Elementwise.Multiply";
        Three(Op, a, b, y);
        switch (a.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.Multiply(a, b, y);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.Multiply(a, b, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, a.Device);
        }
    }

    /// <summary>y = s·x; one dtype and shape; y may be x.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Scale(Tensor x, float s, Tensor y)
    {
        const string Op = "Elementwise.Scale";
        Check.Float(Op, x);
        Check.Like(Op, y, x);
        Check.Contiguous(Op, y);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.Scale(x, s, y);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.Scale(x, s, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>y += s·x; equal numbers of elements, each of its own float dtype.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void AddScaled(Tensor y, Tensor x, float s)
    {
        const string Op = "Elementwise.AddScaled";
        Check.Float(Op, y);
        Check.Float(Op, x);
        Check.Count(Op, x, y.Elements);
        Check.SameDevice(Op, x, y);
        switch (y.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.AddScaled(y, x, s);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.AddScaled(y, x, s);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, y.Device);
        }
    }

    /// <summary>x[r, c] += bias[c]; x [R, C] (leading dimensions count as rows), bias [C] of any float dtype.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void AddBias(Tensor x, Tensor bias)
    {
        const string Op = "Elementwise.AddBias";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Float(Op, bias);
        Check.Count(Op, bias, Check.Columns(x));
        Check.SameDevice(Op, bias, x);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.AddBias(x, bias);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.AddBias(x, bias);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>
    /// dBias[c] += Σᵣ dy[r, c], the backward of <see cref="AddBias"/>; dy [R, C], dBias [C] of any float dtype. Rows are
    /// added in chunks of a fixed size, so the sum does not depend on the thread count.
    /// </summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void BiasGradient(Tensor dy, Tensor dBias)
    {
        const string Op = "Elementwise.BiasGradient";
        Check.FloatStrided(Op, dy);
        Check.Rows(Op, dy);
        Check.Float(Op, dBias);
        Check.Count(Op, dBias, Check.Columns(dy));
        Check.SameDevice(Op, dBias, dy);
        switch (dy.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.BiasGradient(dy, dBias);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.BiasGradient(dy, dBias);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, dy.Device);
        }
    }

    /// <summary>y[r, c] = x[r, c]·s[c]; x and y [R, C] of one dtype, s [C] of any float dtype; y may be x.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void ScaleColumns(Tensor x, Tensor s, Tensor y)
    {
        const string Op = "Elementwise.ScaleColumns";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Float(Op, s);
        Check.Count(Op, s, Check.Columns(x));
        Check.SameDevice(Op, s, x);
        Check.Like(Op, y, x);
        Check.Rows(Op, y);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                ElementwiseCpu.ScaleColumns(x, s, y);
                break;
            case DeviceKind.Cuda:
                ElementwiseCuda.ScaleColumns(x, s, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static void Three(string op, Tensor a, Tensor b, Tensor y)
    {
        Check.FloatStrided(op, a);
        Check.Rows(op, a);
        Check.Like(op, b, a);
        Check.Rows(op, b);
        Check.Like(op, y, a);
        Check.Rows(op, y);
    }
}

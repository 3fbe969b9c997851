using Engine.Tensors;

namespace Engine.Kernels;

/// <remarks>
/// The fast form: frozen weights in a <see cref="BorderedWeight"/>, inputs and gradients in tensors with a border
/// (<see cref="Tensor.Border"/>). Forward: <see cref="Down"/>, then <see cref="Product"/>. Backward: <see cref="GradientY"/>,
/// <see cref="ProductBackward"/>, <see cref="GradientX"/>.
/// </remarks>
public static partial class LowRank
{
    /// <summary>
    /// S = scale·X·Aᵀ for all linears of a stack. On a GPU S is rounded once, from an f32 sum: of bf16 and f16, more than 16 rows, up
    /// to 4096 inputs or several scales, borders up to 32 columns and addresses and strides of 16 bytes by one launch, else by products.
    /// </summary>
    /// <param name="x">[M, K], any row stride; the weight's dtype. May be the tensor whose border <paramref name="s"/> is.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="s">[M, R], overwritten; the weight's dtype, any row stride.</param>
    /// <param name="linear">The linear whose columns are computed; null for all.</param>
    /// <param name="copy">S once more, without the border's gaps, for the backward: [M, R], overwritten; or null, as for one linear.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit, or a copy of one linear's is asked for.</exception>
    public static void Down(Tensor x, BorderedWeight weight, Tensor s, int? linear = null, Tensor? copy = null)
    {
        const string Op = "LowRank.Down";
        ArgumentNullException.ThrowIfNull(weight);
        Operand(Op, x, weight, weight.Inputs, nameof(x));
        Operand(Op, s, weight, weight.Width, nameof(s));
        Check.Shaped(Op, s, [x.Shape[0], weight.Width]);
        CopyOfS(Op, copy, s);
        if (linear is not null && copy is not null)
        {
            throw new ArgumentException($"{Op}: a copy is of all linears' S", nameof(copy));
        }

        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                LowRankCpu.Down(x, weight, s, linear, copy);
                break;
            case DeviceKind.Cuda:
                LowRankCuda.Down(x, weight, s, linear, copy);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>Y = [X S]·[W B]ᵀ + bias.</summary>
    /// <param name="x">[M, K] with S in its border.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="biases">One [N] or null for each linear; or none at all.</param>
    /// <param name="y">[M, N] of all linears, overwritten.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Product(Tensor x, BorderedWeight weight, IReadOnlyList<Tensor?> biases, Tensor y)
    {
        const string Op = "LowRank.Product";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(biases);
        Operand(Op, x, weight, weight.Inputs, nameof(x));
        using Tensor operand = x.WithBorder(weight.Width);
        bool whole = weight.Slots.Count == 1 || biases.All(static bias => bias is null);
        for (int i = 0; i < (whole ? 1 : weight.Slots.Count); i++)
        {
            BorderSlot slot = weight.Slots[i];
            (int begin, int outputs) = whole ? (0, weight.Outputs) : (slot.Begin, slot.Outputs);
            using Tensor second = weight.ForwardOperand(begin, outputs);
            using Tensor result = y.Slice(1, begin, outputs);
            MatMul.Run(operand, false, second, !weight.IsTransposed, result, bias: biases.Count == 0 ? null : biases[i]);
        }
    }

    /// <summary>
    /// The whole forward of a few rows by one launch of <see cref="Gemv"/>, where a GPU has one for them: nothing is kept for a
    /// backward, and X needs no border.
    /// </summary>
    /// <param name="x">[M, K], M up to <see cref="Gemv.MostRows"/>.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="biases">As in <see cref="Product"/>.</param>
    /// <param name="y">[M, N] of all linears, overwritten.</param>
    /// <returns>False where there is none; nothing has happened then.</returns>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static bool TryDecode(Tensor x, BorderedWeight weight, IReadOnlyList<Tensor?> biases, Tensor y)
    {
        const string Op = "LowRank.TryDecode";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(biases);
        Operand(Op, x, weight, weight.Inputs, nameof(x));
        if (!Decodes(x.Shape[0], weight, biases))
        {
            return false;
        }

        // B is zero outside each linear's own columns, so the stack is one linear.
        using Tensor frozen = weight.BackwardOperand(withBorder: false);
        using Tensor down = weight.Down();
        using Tensor up = weight.Up();
        Gemv.Run(x, frozen, biases.Count == 0 ? null : biases[0], down, up, weight.CommonScale!.Value, y);
        return true;
    }

    /// <summary>Whether <see cref="TryDecode"/> has a launch for so many rows.</summary>
    /// <param name="rows">M.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="biases">As in <see cref="Product"/>.</param>
    public static bool Decodes(int rows, BorderedWeight weight, IReadOnlyList<Tensor?> biases)
    {
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(biases);
        return weight.Device.Kind == DeviceKind.Cuda && !weight.IsTransposed && Gemv.Supports(weight.Device, weight.DType, rows, weight.Width) &&
            weight.CommonScale is not null && (weight.Slots.Count == 1 || biases.All(static bias => bias is null));
    }

    /// <summary>dS = scale·dY·B into the border of dY, and dB += dYᵀ·S.</summary>
    /// <param name="dy">[M, N] of all linears, with a border.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="s">What <see cref="Down"/> made.</param>
    /// <param name="dB">[N, r] for each linear, added to; f32 on a GPU is the fast case; null where none is wanted.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void GradientY(Tensor dy, BorderedWeight weight, Tensor s, IReadOnlyList<Tensor?> dB) =>
        GradientOfY(dy, weight, s, dB, null)?.Dispose();

    private static ScaledGradient? GradientOfY(Tensor dy, BorderedWeight weight, Tensor s, IReadOnlyList<Tensor?> dB, NormedInput? x)
    {
        const string Op = "LowRank.GradientY";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dB);
        Operand(Op, dy, weight, weight.Outputs, nameof(dy));
        Operand(Op, s, weight, weight.Width, nameof(s));
        using Tensor ds = dy.BorderColumns(weight.Width);
        for (int i = 0; i < dB.Count; i++)
        {
            Gradient(Op, dB[i], weight.Slots[i].Outputs, weight.Slots[i].Rank, dy, nameof(dB));
        }

        switch (dy.Device.Kind)
        {
            case DeviceKind.Cpu:
                LowRankCpu.GradientY(dy, weight, s, ds, dB);
                return null;
            case DeviceKind.Cuda:
                return LowRankCuda.GradientY(dy, weight, s, ds, dB, x);
            default:
                throw DeviceDispatch.Unsupported(Op, dy.Device);
        }
    }

    /// <summary>dX = beta·dX + [dY dS]·[W; A], or without dS dY·W.</summary>
    /// <param name="dy">[M, N] with dS in its border, or any matrix when <paramref name="withBorder"/> is false.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="dx">[M, K]; not read when <paramref name="beta"/> is 0.</param>
    /// <param name="beta">0 or 1.</param>
    /// <param name="withBorder">Whether the low-rank part is taken in.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void ProductBackward(Tensor dy, BorderedWeight weight, Tensor dx, float beta, bool withBorder = true)
    {
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dy);
        using Tensor first = withBorder ? dy.WithBorder(weight.Width) : dy.Share();
        using Tensor second = weight.BackwardOperand(withBorder);
        MatMul.Run(first, false, second, weight.IsTransposed, dx, beta: beta);
    }

    /// <summary>
    /// dX of one linear's low-rank branch alone, dX = beta·dX + dS·A: where its input was not X but X with elements dropped.
    /// </summary>
    /// <param name="dy">With dS in its border.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="linear">Which linear.</param>
    /// <param name="dx">[M, K]; not read when <paramref name="beta"/> is 0.</param>
    /// <param name="beta">0 or 1.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void BranchBackward(Tensor dy, BorderedWeight weight, int linear, Tensor dx, float beta)
    {
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dy);
        BorderSlot slot = weight.Slots[linear];
        using Tensor border = dy.BorderColumns(weight.Width);
        using Tensor ds = border.Slice(1, slot.At, slot.Width);
        using Tensor all = weight.Down();
        using Tensor down = all.Slice(0, slot.At, slot.Width);
        MatMul.Run(ds, false, down, false, dx, beta: beta);
    }

    /// <summary>dA += dSᵀ·X.</summary>
    /// <param name="x">The input of <see cref="Down"/>.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="ds">[M, R], what <see cref="GradientY"/> left in the border.</param>
    /// <param name="dA">[r, K] for each linear, added to; null where none is wanted.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void GradientX(Tensor x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        const string Op = "LowRank.GradientX";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dA);
        Operand(Op, x, weight, weight.Inputs, nameof(x));
        Operand(Op, ds, weight, weight.Width, nameof(ds));
        for (int i = 0; i < dA.Count; i++)
        {
            Gradient(Op, dA[i], weight.Slots[i].Rank, weight.Inputs, x, nameof(dA));
        }

        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                LowRankCpu.GradientX(x, weight, ds, dA);
                break;
            case DeviceKind.Cuda:
                LowRankCuda.GradientX(x, weight, ds, dA);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static void CopyOfS(string op, Tensor? copy, Tensor s)
    {
        if (copy is not null)
        {
            Check.Contiguous(op, copy);
            Check.Like(op, copy, s);
        }
    }

    private static void Operand(string op, Tensor tensor, BorderedWeight weight, int columns, string name)
    {
        Check.FloatStrided(op, tensor, name);
        Check.Rank(op, tensor, 2, name);
        Check.Rows(op, tensor, name);
        if (tensor.Shape[1] != columns || tensor.DType != weight.DType)
        {
            Check.Throw(op, name, $"has to have {columns} columns of {weight.DType.Name()}", tensor);
        }
    }

    private static void Gradient(string op, Tensor? gradient, int rows, int columns, Tensor model, string name)
    {
        if (gradient is not null)
        {
            RowMatrix.Of(op, gradient, model, name).Sized(op, gradient, rows, columns, name);
        }
    }
}

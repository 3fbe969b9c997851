using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe partial class LowRankCpu
{
    /// <summary>The arguments have been checked.</summary>
    public static void Down(Tensor x, BorderedWeight weight, Tensor s, int? linear, Tensor? copy)
    {
        using Tensor down = weight.Down();
        for (int i = linear ?? 0; i <= (linear ?? weight.Slots.Count - 1); i++)
        {
            BorderSlot slot = weight.Slots[i];
            using Tensor rows = down.Slice(0, slot.At, slot.Width);
            using Tensor columns = s.Slice(1, slot.At, slot.Width);
            Product(x, false, rows, true, columns, slot.Scale, accumulate: false);
        }

        if (copy is not null)
        {
            Copy.Run(s, copy);
        }
    }

    /// <summary>The arguments have been checked.</summary>
    public static void GradientY(Tensor dy, BorderedWeight weight, Tensor s, Tensor ds, IReadOnlyList<Tensor?> dB)
    {
        using Tensor up = weight.Up();
        for (int i = 0; i < weight.Slots.Count; i++)
        {
            BorderSlot slot = weight.Slots[i];
            using Tensor own = dy.Slice(1, slot.Begin, slot.Outputs);
            using Tensor rows = up.Slice(0, slot.Begin, slot.Outputs);
            using Tensor block = rows.Slice(1, slot.At, slot.Width);
            using Tensor target = ds.Slice(1, slot.At, slot.Width);
            Product(own, false, block, false, target, slot.Scale, accumulate: false);
            if (dB[i] is { } gradient)
            {
                using Tensor factor = s.Slice(1, slot.At, slot.Rank);
                Product(own, true, factor, false, gradient, 1, accumulate: true);
            }
        }
    }

    /// <summary>The arguments have been checked.</summary>
    public static void GradientX(Tensor x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        for (int i = 0; i < weight.Slots.Count; i++)
        {
            if (dA[i] is { } gradient)
            {
                using Tensor factor = ds.Slice(1, weight.Slots[i].At, weight.Slots[i].Rank);
                Product(factor, true, x, false, gradient, 1, accumulate: true);
            }
        }
    }

    private static void Product(Tensor a, bool transA, Tensor b, bool transB, Tensor c, float alpha, bool accumulate)
    {
        if (c.Elements > 0)
        {
            Product(RowMatrix.Of("", a, a), transA, RowMatrix.Of("", b, b), transB, RowMatrix.Of("", c, c), alpha, accumulate);
        }
    }
}

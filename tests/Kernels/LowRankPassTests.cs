using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>
/// The gradients of the bordered low-rank path by themselves, at sizes that a GPU's own kernels take and without the products
/// between them, so that memory checkers can look at the kernels alone.
/// </summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class LowRankPassTests
{
    /// <summary>Dtype, R, K, then outputs and rank of each linear.</summary>
    public static TheoryData<DType, int, int, int[]> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int, int[]>();
            foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
            {
                data.Add(dtype, 70, 264, [136, 1, 128, 16, 72, 16]);
                data.Add(dtype, 130, 72, [552, 16]);
                data.Add(dtype, 65, 1032, [40, 8]);
                data.Add(dtype, 150, 136, [264, 32]);
                data.Add(dtype, 40, 272, [8, 64]);

                // Several groups of rows a block, more than a factor's ring has places.
                data.Add(dtype, 50688, 72, [40, 16]);
                data.Add(dtype, 34000, 40, [24, 32]);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_agree_with_products_in_double_precision(DType dtype, int rows, int inputs, int[] linears)
    {
        using var stack = new AdaptedStack(dtype, inputs, linears, transposed: false);
        BorderedWeight weight = stack.Weight;
        (int n, int width) = (weight.Outputs, weight.Width);
        var op = new LowRankCase(rows, inputs, n, width, dtype, true);
        var random = new RandomTensors(31);
        using Tensor x = LowRankTests.Bordered(random, rows, inputs, weight);
        using Tensor s = x.BorderColumns(width);
        using (GuardedTensor values = random.Normal([rows, width], dtype))
        {
            Copy.Run(values, s);
        }

        // Of ranks up to 32 dS too is our own kernel's.
        double[] exact, magnitude;
        using Tensor dy = LowRankTests.Bordered(random, rows, n, weight);
        using Tensor ds = dy.BorderColumns(width);
        if (weight.Slots.All(static slot => slot.Width <= 32))
        {
            GuardedTensor[] dB = [.. weight.Slots.Select(slot => GuardedTensor.From(new double[slot.Outputs * slot.Rank], [slot.Outputs, slot.Rank], DType.F32))];
            LowRank.GradientY(dy, weight, s, [.. dB.Select(static t => t.Tensor)]);
            double[] up = LowRankTests.Transpose(stack.Up(), n, width);
            (exact, magnitude) = LowRankTests.Product(dy.ToDoubles(), stack.Scaled(up, n), rows, width, n, 1, null);
            LowRankTests.Close(op, exact, ds, magnitude);
            (exact, magnitude) = LowRankTests.Product(
                LowRankTests.Transpose(dy.ToDoubles(), rows, n), LowRankTests.Transpose(s.ToDoubles(), rows, width), n, width, rows, 1, null);
            Compare(op, dB, exact, magnitude, width, static slot => (slot.Begin, slot.At));
        }
        else
        {
            Copy.Run(s, ds);
        }

        GuardedTensor[] dA = [.. weight.Slots.Select(slot => GuardedTensor.From(new double[slot.Rank * inputs], [slot.Rank, inputs], DType.F32))];
        LowRank.GradientX(x, weight, ds, [.. dA.Select(static t => t.Tensor)]);
        (exact, magnitude) = LowRankTests.Product(
            LowRankTests.Transpose(ds.ToDoubles(), rows, width), LowRankTests.Transpose(x.ToDoubles(), rows, inputs), width, inputs, rows, 1, null);
        Compare(op, dA, exact, magnitude, inputs, static slot => (slot.At, 0));

        void Compare(LowRankCase op, GuardedTensor[] gradients, double[] all, double[] magnitudes, int stride, Func<BorderSlot, (int Row, int Column)> place)
        {
            for (int i = 0; i < gradients.Length; i++)
            {
                (int row, int column) = place(weight.Slots[i]);
                (int count, int columns) = (gradients[i].Tensor.Shape[0], gradients[i].Tensor.Shape[1]);
                double[] Part(double[] m) =>
                    [.. Enumerable.Range(0, count * columns).Select(e => m[((row + (e / columns)) * stride) + column + (e % columns)])];
                KernelAssert.Close(op.Error(DType.F32), op.Name, Part(all), gradients[i], Part(magnitudes));
                gradients[i].Dispose();
            }
        }
    }
}

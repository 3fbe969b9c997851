using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>SwiGLU's backward with the gradient of A of the linear behind it.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class LowRankSwiGluTests
{
    /// <summary>Dtype, R, K, then outputs and rank of each linear, a gap between rows.</summary>
    public static TheoryData<DType, int, int, int[], int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int, int[], int>();
            foreach (DType dtype in KernelAssert.FloatTypes)
            {
                data.Add(dtype, 37, 65, [43, 8], 0);
                data.Add(dtype, 0, 16, [8, 4], 0);
                data.Add(dtype, 1, 24, [8, 4], 0);
                data.Add(dtype, 70, 72, [40, 3, 24, 0, 16, 16], 8);
                data.Add(dtype, 64, 128, [64, 80], 0);
            }

            // Each width of the kernels, several blocks of rows and columns.
            foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
            {
                data.Add(dtype, 33, 264, [16, 5], 0);
                data.Add(dtype, 1300, 136, [24, 16], 8);
                data.Add(dtype, 130, 1032, [16, 32], 64);
                data.Add(dtype, 97, 200, [40, 40], 16);
                data.Add(dtype, 150, 136, [8, 64], 8);
                data.Add(dtype, 31, 72, [8, 3, 8, 9], 0);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_are_those_of_the_steps(DType dtype, int rows, int columns, int[] linears, int gap)
    {
        using var problem = new Problem(dtype, rows, columns, linears, gap);
        BorderedWeight weight = problem.Stack.Weight;
        GuardedTensor[] dA = problem.Gradients(filled: true);
        double[][] before = [.. dA.Select(static t => t.ToDoubles())];
        using GuardedTensor dGate = GuardedTensor.Empty([rows, columns], dtype, gap);
        using GuardedTensor dUp = GuardedTensor.Empty([rows, columns], dtype, gap);
        LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, weight, problem.Ds, [.. dA.Select((t, i) => i == 1 ? null : t.Tensor)], dGate, dUp);

        // The bits of SwiGLU's own backward, which has tests of its own.
        using GuardedTensor gate = GuardedTensor.Empty([rows, columns], dtype, gap);
        using GuardedTensor up = GuardedTensor.Empty([rows, columns], dtype, gap);
        SwiGlu.Backward(problem.DInner, problem.Gate, problem.Up, gate, up);
        Assert.Equal(gate.ToBytes(), dGate.ToBytes());
        Assert.Equal(up.ToBytes(), dUp.ToBytes());
        dGate.AssertGuards();
        dUp.AssertGuards();

        // dA in double precision from y as SwiGLU's forward rounds it.
        using GuardedTensor y = GuardedTensor.Empty([rows, columns], dtype, gap);
        SwiGlu.Forward(problem.Gate, problem.Up, y);
        (double[] exact, double[] magnitude) = LowRankTests.Product(
            LowRankTests.Transpose(problem.Ds.ToDoubles(), rows, weight.Width), LowRankTests.Transpose(y.ToDoubles(), rows, columns), weight.Width, columns, rows, 1, null);
        var op = new LowRankSwiGluCase(rows, columns, weight.Width, dtype);
        for (int i = 0; i < dA.Length; i++)
        {
            (int at, int count) = (weight.Slots[i].At * columns, weight.Slots[i].Rank * columns);
            double[] sum = [.. before[i].Select((v, e) => i == 1 ? v : v + exact[at + e])];
            KernelAssert.Close(op.Error(dA[i].Tensor.DType), op.Name, sum, dA[i], [.. before[i].Select((v, e) => Math.Abs(v) + magnitude[at + e])]);
            Assert.Equal(count, before[i].Length);
            dA[i].Dispose();
        }
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Gradients_may_lie_where_the_inputs_were_and_A_need_not_be_trained(DType dtype)
    {
        using var problem = new Problem(dtype, 70, 136, [16, 16], gap: 8);
        using GuardedTensor dGate = GuardedTensor.Empty([70, 136], dtype);
        using GuardedTensor dUp = GuardedTensor.Empty([70, 136], dtype);
        LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, problem.Stack.Weight, problem.Ds, [null], dGate, dUp);
        using GuardedTensor apart = problem.Gradients(filled: false)[0];
        using GuardedTensor inPlace = problem.Gradients(filled: false)[0];
        using (GuardedTensor other = GuardedTensor.Empty([70, 136], dtype))
        {
            LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, problem.Stack.Weight, problem.Ds, [apart], other, dUp);
            Assert.Equal(dGate.ToBytes(), other.ToBytes());
        }

        LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, problem.Stack.Weight, problem.Ds, [inPlace], problem.Gate, problem.Up);
        Assert.Equal(dGate.ToBytes(), problem.Gate.ToBytes());
        Assert.Equal(dUp.ToBytes(), problem.Up.ToBytes());
        Assert.Equal(apart.ToBytes(), inPlace.ToBytes());
    }

    // Where σ underflows or saturates: a GPU's one pass divides in another way there.
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Large_gates_have_the_bits_of_the_steps(DType dtype)
    {
        using var problem = new Problem(dtype, 64, 128, [16, 16], gap: 0);
        double[] gates = [.. Enumerable.Range(0, 64 * 128).Select(static i => i % 11 == 0 ? (i % 2 == 0 ? -1 : 1) * (84 + (i % 40)) : (i % 16) - 8.0)];
        gates[5] = double.NegativeInfinity;
        gates[200] = double.NaN;
        using GuardedTensor gate = GuardedTensor.From(gates, [64, 128], dtype);
        using GuardedTensor dA = problem.Gradients(filled: false)[0];
        GuardedTensor[] results = [.. Enumerable.Range(0, 4).Select(_ => GuardedTensor.Empty([64, 128], dtype))];
        LowRank.SwiGluBackward(problem.DInner, gate, problem.Up, problem.Stack.Weight, problem.Ds, [dA], results[0], results[1]);
        SwiGlu.Backward(problem.DInner, gate, problem.Up, results[2], results[3]);
        Assert.Equal(results[2].ToBytes(), results[0].ToBytes());
        Assert.Equal(results[3].ToBytes(), results[1].ToBytes());
        Array.ForEach(results, static t => t.Dispose());
    }

    [Fact]
    public void Results_are_the_same_every_time() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, 700, 520, [24, 16], gap: 8);
        GuardedTensor dA = problem.Gradients(filled: false)[0];
        GuardedTensor dGate = GuardedTensor.Empty([700, 520], dtype);
        GuardedTensor dUp = GuardedTensor.Empty([700, 520], dtype);
        LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, problem.Stack.Weight, problem.Ds, [dA], dGate, dUp);
        return [dA, dGate, dUp];
    });

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var problem = new Problem(DType.F32, 5, 16, [8, 4], gap: 0);
        using GuardedTensor small = GuardedTensor.Empty([4, 16], DType.F32);
        using GuardedTensor half = GuardedTensor.Empty([5, 16], DType.BF16);
        using GuardedTensor result = GuardedTensor.Empty([5, 16], DType.F32);
        BorderedWeight weight = problem.Stack.Weight;
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluBackward(small, problem.Gate, problem.Up, weight, problem.Ds, [null], result, result));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluBackward(problem.DInner, half, problem.Up, weight, problem.Ds, [null], result, result));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, weight, small, [null], result, result));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluBackward(problem.DInner, problem.Gate, problem.Up, weight, problem.Ds, [result], result, result));
    }

    private sealed class Problem : IDisposable
    {
        private readonly RandomTensors _random = new(41);

        public Problem(DType dtype, int rows, int columns, int[] linears, int gap)
        {
            Stack = new AdaptedStack(dtype, columns, linears, transposed: false);
            Gate = _random.Normal([rows, columns], dtype, deviation: 3, rowGap: gap);
            Up = _random.Normal([rows, columns], dtype, rowGap: gap);
            DInner = _random.Normal([rows, columns], dtype, rowGap: gap);
            Ds = _random.Normal([rows, Stack.Weight.Width], dtype, rowGap: gap);
        }

        public AdaptedStack Stack { get; }

        public GuardedTensor Gate { get; }

        public GuardedTensor Up { get; }

        public GuardedTensor DInner { get; }

        public GuardedTensor Ds { get; }

        public GuardedTensor[] Gradients(bool filled)
        {
            DType dtype = Gate.Tensor.DType == DType.F64 ? DType.F64 : DType.F32;
            return
            [
                .. Stack.Weight.Slots.Select(slot => filled
                    ? _random.Normal([slot.Rank, Stack.Weight.Inputs], dtype)
                    : GuardedTensor.From(new double[slot.Rank * Stack.Weight.Inputs], [slot.Rank, Stack.Weight.Inputs], dtype)),
            ];
        }

        public void Dispose()
        {
            Stack.Dispose();
            Array.ForEach([Gate, Up, DInner, Ds], static t => t.Dispose());
        }
    }
}

using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>SwiGLU with S of the linear behind it.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class LowRankSwiGluDownTests
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
                data.Add(dtype, 5, 16, [8, 0], 0);
                data.Add(dtype, 70, 72, [40, 3, 24, 0, 16, 16], 8);
                data.Add(dtype, 33, 128, [64, 16], 3);
            }

            // Each width of the kernels, rows and columns that end within a tile, and what they leave to the two steps.
            foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
            {
                data.Add(dtype, 1, 8, [8, 8], 0);
                data.Add(dtype, 17, 24, [8, 16], 0);
                data.Add(dtype, 33, 40, [8, 32], 8);
                data.Add(dtype, 100, 128, [16, 5], 16);
                data.Add(dtype, 17, 264, [16, 17], 0);
                data.Add(dtype, 1, 1000, [8, 32], 0);
                data.Add(dtype, 100, 1000, [24, 16], 8);
                data.Add(dtype, 33, 520, [8, 8], 64);
                data.Add(dtype, 33, 264, [8, 40], 0);

                // Above 4224 rows blocks of 32.
                data.Add(dtype, 4225, 24, [8, 8], 0);
                data.Add(dtype, 4273, 264, [8, 16], 8);
                data.Add(dtype, 4300, 40, [8, 32], 0);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Results_are_those_of_SwiGlu_and_the_product(DType dtype, int rows, int columns, int[] linears, int gap)
    {
        using var problem = new Problem(dtype, rows, columns, linears, gap);
        problem.Run();
        Assert.Equal(problem.Expected(), problem.Y());
        problem.AssertS();
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Several_linears_may_have_one_scale(DType dtype)
    {
        using var problem = new Problem(dtype, 50, 136, [16, 8, 8, 3, 24, 16], gap: 8);
        Assert.True(problem.Weight.TryAssign([8, 3, 16], [0.25f, 0.25f, 0.25f]));
        problem.Run();
        Assert.Equal(problem.Expected(), problem.Y());
        problem.AssertS();
    }

    // Where σ underflows or saturates: a GPU's one pass divides in another way there.
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Large_gates_have_the_bits_of_SwiGlu(DType dtype)
    {
        using var problem = new Problem(dtype, 64, 128, [16, 16], gap: 0);
        double[] gates = [.. Enumerable.Range(0, 64 * 128).Select(static i => i % 11 == 0 ? (i % 2 == 0 ? -1 : 1) * (84 + (i % 40)) : (i % 16) - 8.0)];
        gates[5] = double.NegativeInfinity;
        gates[200] = double.NaN;
        using (GuardedTensor values = GuardedTensor.From(gates, [64, 128], dtype))
        {
            Copy.Run(values, problem.Gate);
        }

        problem.Run();
        Assert.Equal(problem.Expected(), problem.Y());
    }

    // A row's S is added up alike whatever block it is in; the library's products are not.
    [Theory]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(32)]
    public void S_of_a_row_does_not_depend_on_the_number_of_rows(int rank)
    {
        Assert.SkipUnless(TestDevice.IsCuda && GuardedTensor.IsAligned, "one pass is a GPU's, and of aligned tensors");
        using var problem = new Problem(DType.BF16, 4300, 520, [8, rank], gap: 0);
        problem.Run();
        byte[] all = problem.S(40);
        problem.Run(40);
        Assert.Equal(all, problem.S(40));
    }

    [Fact]
    public void Results_are_the_same_every_time() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, 700, 520, [24, 16], gap: 8);
        problem.Run();
        return [problem.TakeResults()];
    });

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var problem = new Problem(DType.F32, 5, 16, [8, 4], gap: 0);
        using GuardedTensor small = GuardedTensor.Empty([4, 16], DType.F32);
        using GuardedTensor half = GuardedTensor.Empty([5, 16], DType.BF16);
        using GuardedTensor y = GuardedTensor.Empty([5, 16], DType.F32);
        using GuardedTensor s = GuardedTensor.Empty([5, 8], DType.F32);
        using GuardedTensor fewer = GuardedTensor.Empty([4, 8], DType.F32);
        BorderedWeight weight = problem.Weight;
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(half, problem.Up, weight, y, s));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(problem.Gate, small, weight, y, s));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(problem.Gate, problem.Up, weight, half, s));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(problem.Gate, problem.Up, weight, y, y));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(problem.Gate, problem.Up, weight, y, fewer));
        Assert.Throws<ArgumentException>(() => LowRank.SwiGluDown(problem.Gate, problem.Up, weight, y, s, fewer));
    }

    // gate and up are the halves of one tensor, y and S neighbours in another, as a model has them.
    private sealed class Problem : IDisposable
    {
        private readonly AdaptedStack _stack;
        private readonly GuardedTensor _hidden;
        private GuardedTensor? _results;

        public Problem(DType dtype, int rows, int columns, int[] linears, int gap)
        {
            _stack = new AdaptedStack(dtype, columns, linears, transposed: false);
            var random = new RandomTensors(43);
            _hidden = random.Normal([rows, 2 * columns], dtype, deviation: 2, rowGap: gap);
            _results = GuardedTensor.Empty([rows, columns + Weight.Width], dtype, gap);
            (Gate, Up) = (_hidden.Tensor.Slice(1, 0, columns), _hidden.Tensor.Slice(1, columns, columns));
        }

        public BorderedWeight Weight => _stack.Weight;

        public Tensor Gate { get; }

        public Tensor Up { get; }

        private GuardedTensor Results => _results!;

        private int Columns => Weight.Inputs;

        public void Run() => Run(Gate.Shape[0]);

        public void Run(int rows)
        {
            using Tensor gate = Gate.Slice(0, 0, rows);
            using Tensor up = Up.Slice(0, 0, rows);
            using Tensor both = Results.Tensor.Slice(0, 0, rows);
            using Tensor y = both.Slice(1, 0, Columns);
            using Tensor s = both.Slice(1, Columns, Weight.Width);
            using GuardedTensor copied = GuardedTensor.Empty(s.Shape, s.DType);
            LowRank.SwiGluDown(gate, up, Weight, y, s, copied);
            Results.AssertGuards();
            copied.AssertGuards();
            byte[] bytes = S(rows);
            Assert.Equal(bytes, copied.ToBytes());

            // The same bits where nobody wants a copy.
            LowRank.SwiGluDown(gate, up, Weight, y, s);
            Assert.Equal(bytes, S(rows));
        }

        public byte[] Y() => Part(Gate.Shape[0], 0, Columns);

        public byte[] S(int rows) => Part(rows, Columns, Weight.Width);

        // y by SwiGLU's own forward, which has tests of its own.
        public byte[] Expected()
        {
            using GuardedTensor y = GuardedTensor.Empty(Gate.Shape, Gate.DType);
            SwiGlu.Forward(Gate, Up, y);
            return y.ToBytes();
        }

        // S in double precision from y as it is stored.
        public void AssertS()
        {
            int rows = Gate.Shape[0];
            using Tensor y = Results.Tensor.Slice(1, 0, Columns);
            using Tensor s = Results.Tensor.Slice(1, Columns, Weight.Width);
            (double[] exact, double[] magnitude) = LowRankTests.Product(
                y.ToDoubles(), _stack.Scaled(_stack.Down(), Columns), rows, Weight.Width, Columns, 1, null);
            var op = new LowRankSwiGluDownCase(rows, Columns, Weight.Width, Gate.DType);
            using GuardedTensor copy = GuardedTensor.From(s.ToDoubles(), s.Shape, s.DType);
            KernelAssert.Close(op, exact, copy, magnitude);
        }

        // The results' owner is then the caller.
        public GuardedTensor TakeResults()
        {
            GuardedTensor results = Results;
            _results = null;
            return results;
        }

        public void Dispose()
        {
            Gate.Dispose();
            Up.Dispose();
            _hidden.Dispose();
            _results?.Dispose();
            _stack.Dispose();
        }

        private byte[] Part(int rows, int column, int columns)
        {
            using Tensor some = Results.Tensor.Slice(0, 0, rows);
            using Tensor part = some.Slice(1, column, columns);
            using Tensor dense = Copy.Dense(part);
            return dense.ToBytes();
        }
    }
}

using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>S = scale·X·Aᵀ of a stack.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class LowRankDownTests
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
                data.Add(dtype, 1, 72, [8, 3], 5);
                data.Add(dtype, 70, 72, [40, 3, 24, 0, 16, 16], 8);
            }

            // Each width of the kernels, rows and columns that end within a tile, more columns than are on their way at once, and what
            // is left to products.
            foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
            {
                data.Add(dtype, 16, 24, [8, 8], 0);
                data.Add(dtype, 17, 8, [8, 8], 0);
                data.Add(dtype, 33, 1032, [8, 16], 16);
                data.Add(dtype, 100, 1800, [8, 32], 0);
                data.Add(dtype, 50, 520, [8, 40], 8);
                data.Add(dtype, 31, 2056, [8, 64], 0);
                data.Add(dtype, 40, 264, [8, 8, 8, 8, 16, 5], 64);
                data.Add(dtype, 90, 776, [8, 8, 16, 8, 8, 8, 8, 8], 8);
                data.Add(dtype, 20, 136, [8, 72], 0);
                data.Add(dtype, 18, 8200, [8, 16], 0);
                data.Add(dtype, 18, 8200, [8, 8, 16, 8], 0);
            }

            // Above 4224 rows blocks of 32: a GPU's.
            foreach (DType dtype in new[] { DType.BF16, DType.F16 }.Where(static _ => TestDevice.IsCuda))
            {
                data.Add(dtype, 4225, 24, [8, 8], 0);
                data.Add(dtype, 4273, 264, [8, 16], 8);
                data.Add(dtype, 4300, 40, [8, 32], 0);
                data.Add(dtype, 4226, 1160, [8, 8, 16, 8, 8, 5], 8);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void S_is_the_product_and_so_is_its_copy(DType dtype, int rows, int columns, int[] linears, int gap)
    {
        using var problem = new Problem(dtype, rows, columns, linears, gap);
        problem.Run(rows, withCopy: true);
        problem.AssertS();
        byte[] s = problem.S(rows);
        Assert.Equal(s, problem.Copied());

        // The same bits where nobody wants a copy.
        problem.Run(rows, withCopy: false);
        Assert.Equal(s, problem.S(rows));
    }

    // Whichever block a row is in.
    [Theory]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(32)]
    public void S_of_a_row_does_not_depend_on_the_number_of_rows(int rank)
    {
        Assert.SkipUnless(TestDevice.IsCuda && GuardedTensor.IsAligned, "the kernel is a GPU's, and of aligned tensors");
        using var problem = new Problem(DType.BF16, 4300, 520, [8, rank], gap: 0);
        problem.Run(4300, withCopy: true);
        byte[] all = problem.S(40);
        foreach (int rows in new[] { 40, 4300 })
        {
            problem.Run(rows, withCopy: false);
            Assert.Equal(all, problem.S(40));
        }
    }

    [Fact]
    public void Results_are_the_same_every_time() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, 700, 1032, [24, 16, 8, 8], gap: 8);
        problem.Run(700, withCopy: true);
        return problem.TakeResults();
    });

    // NaN in the border, where S is to be and beside it, does not come in.
    [Fact]
    public void Nothing_but_X_is_read()
    {
        using var stack = new AdaptedStack(DType.BF16, 264, [8, 16], transposed: false);
        using Tensor x = LowRankTests.Bordered(new RandomTensors(3), 100, 264, stack.Weight);
        using Tensor s = x.BorderColumns(stack.Weight.Width);
        using GuardedTensor copy = GuardedTensor.Empty(s.Shape, s.DType);
        LowRank.Down(x, stack.Weight, s, copy: copy);
        Assert.All(s.ToDoubles(), static v => Assert.True(double.IsFinite(v)));

        // X is aligned here whether the copy is or not.
        Assert.Equal(s.ToDoubles(), copy.ToDoubles());
        copy.AssertGuards();
    }

    [Fact]
    public void A_transposed_stack_has_the_same_S()
    {
        using var stack = new AdaptedStack(DType.BF16, 264, [24, 16], transposed: true);
        var random = new RandomTensors(5);
        using GuardedTensor x = random.Normal([50, 264], DType.BF16);
        using GuardedTensor s = GuardedTensor.Empty([50, 16], DType.BF16);
        LowRank.Down(x, stack.Weight, s);
        (double[] exact, double[] magnitude) = LowRankTests.Product(x.ToDoubles(), stack.Scaled(stack.Down(), 264), 50, 16, 264, 1, null);
        KernelAssert.Close(new LowRankPassCase(LowRankPass.Down, 50, 264, 16, DType.BF16), exact, s, magnitude);
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var stack = new AdaptedStack(DType.F32, 16, [8, 8], transposed: false);
        using GuardedTensor x = GuardedTensor.Empty([5, 16], DType.F32);
        using GuardedTensor s = GuardedTensor.Empty([5, 8], DType.F32);
        using GuardedTensor fewer = GuardedTensor.Empty([4, 8], DType.F32);
        using GuardedTensor half = GuardedTensor.Empty([5, 8], DType.BF16);
        using GuardedTensor gaps = GuardedTensor.Empty([5, 8], DType.F32, rowGap: 8);
        Assert.Throws<ArgumentException>(() => LowRank.Down(x, stack.Weight, s, copy: fewer));
        Assert.Throws<ArgumentException>(() => LowRank.Down(x, stack.Weight, s, copy: half));
        Assert.Throws<ArgumentException>(() => LowRank.Down(x, stack.Weight, s, copy: gaps));
        Assert.Throws<ArgumentException>(() => LowRank.Down(x, stack.Weight, s, linear: 0, copy: s));
        Assert.Throws<ArgumentException>(() => LowRank.Down(x, stack.Weight, fewer));
    }

    // X and S are neighbours in one tensor, as a model has them; X was there before.
    private sealed class Problem : IDisposable
    {
        private readonly AdaptedStack _stack;
        private readonly byte[] _x;
        private GuardedTensor? _both;
        private GuardedTensor? _copy;

        public Problem(DType dtype, int rows, int columns, int[] linears, int gap)
        {
            _stack = new AdaptedStack(dtype, columns, linears, transposed: false);
            using GuardedTensor values = new RandomTensors(47).Normal([rows, columns], dtype);
            _x = values.ToBytes();
            _both = GuardedTensor.Empty([rows, columns + Weight.Width], dtype, gap);
            _copy = GuardedTensor.Empty([rows, Weight.Width], dtype);
            using Tensor x = Part(rows, 0, columns);
            Copy.Run(values, x);
        }

        public BorderedWeight Weight => _stack.Weight;

        private int Rows => _both!.Tensor.Shape[0];

        public void Run(int rows, bool withCopy)
        {
            using Tensor x = Part(rows, 0, Weight.Inputs);
            using Tensor s = Part(rows, Weight.Inputs, Weight.Width);
            LowRank.Down(x, Weight, s, copy: withCopy ? _copy!.Tensor : null);
            _both!.AssertGuards();
            _copy!.AssertGuards();
            using Tensor all = Part(Rows, 0, Weight.Inputs);
            Assert.Equal(_x, LowRankTests.Bytes(all));
        }

        public byte[] S(int rows)
        {
            using Tensor s = Part(rows, Weight.Inputs, Weight.Width);
            return LowRankTests.Bytes(s);
        }

        public byte[] Copied() => _copy!.ToBytes();

        // In double precision.
        public void AssertS()
        {
            (int columns, int width) = (Weight.Inputs, Weight.Width);
            using Tensor x = Part(Rows, 0, columns);
            (double[] exact, double[] magnitude) = LowRankTests.Product(
                x.ToDoubles(), _stack.Scaled(_stack.Down(), columns), Rows, width, columns, 1, null);
            KernelAssert.Close(new LowRankPassCase(LowRankPass.Down, Rows, columns, width, _copy!.Tensor.DType), exact, _copy, magnitude);
        }

        // The results' owner is then the caller.
        public GuardedTensor[] TakeResults()
        {
            GuardedTensor[] results = [_both!, _copy!];
            (_both, _copy) = (null, null);
            return results;
        }

        public void Dispose()
        {
            _both?.Dispose();
            _copy?.Dispose();
            _stack.Dispose();
        }

        private Tensor Part(int rows, int column, int columns)
        {
            using Tensor some = _both!.Tensor.Slice(0, 0, rows);
            return some.Slice(1, column, columns);
        }
    }
}

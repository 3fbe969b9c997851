using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class GemvTests
{
    private const float Scale = 1.75f;

    private static readonly DType[] s_types = TestDevice.IsCuda ? [DType.BF16, DType.F16] : [.. TestDevice.FloatTypes];

    /// <summary>Dtype; M, K, N, r.</summary>
    public static TheoryData<DType, int[]> Cases
    {
        get
        {
            var data = new TheoryData<DType, int[]>();
            foreach (DType dtype in s_types)
            {
                for (int rows = 1; rows <= Gemv.MostRows; rows++)
                {
                    data.Add(dtype, [rows, 264, 80, 16]);
                }

                foreach (int rank in new[] { 0, 1, 8, 16, 64, 256 })
                {
                    data.Add(dtype, [1, 1024, 200, rank]);
                    data.Add(dtype, [5, 65, 43, rank]);
                    data.Add(dtype, [16, 1100, 33, rank]);
                }

                data.Add(dtype, [3, 1, 1, 1]);
                data.Add(dtype, [2, 8, 7, 2]);
                data.Add(dtype, [0, 8, 8, 2]);
                data.Add(dtype, [1, 4608, 4100, 16]);

                // More outputs than a GPU's blocks have at once: some have three tiles.
                data.Add(dtype, [3, 264, 8500, 16]);
                data.Add(dtype, [16, 264, 8500, 16]);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_linear_and_its_low_rank_path_are_one_sum(DType dtype, int[] sizes)
    {
        (int rows, int inputs, int outputs, int rank) = (sizes[0], sizes[1], sizes[2], sizes[3]);
        var op = new GemvCase(rows, inputs, outputs, rank, dtype);
        var random = new RandomTensors(1);

        // Strides that keep rows aligned where tensors are.
        int gap = GuardedTensor.IsAligned ? 64 : 3;
        using GuardedTensor x = random.Normal([rows, inputs], dtype, rowGap: gap);
        using GuardedTensor w = random.Normal([outputs, inputs], dtype, rowGap: gap);
        using GuardedTensor bias = random.Normal([outputs], dtype == DType.F64 ? DType.F64 : DType.F32);
        using GuardedTensor? a = rank == 0 ? null : random.Normal([rank, inputs], dtype, rowGap: gap);
        using GuardedTensor? b = rank == 0 ? null : random.Normal([outputs, rank], dtype, rowGap: gap);
        using GuardedTensor y = GuardedTensor.Empty([rows, outputs], dtype, rowGap: gap);
        Gemv.Run(x, w, bias, a?.Tensor, b?.Tensor, Scale, y);

        (double[] exact, double[] magnitude) = Reference(op, x, w, bias, a, b);
        KernelAssert.Close(op, exact, y, magnitude);

        // Again, as a replay would: the workspace is as the first call found it.
        byte[] expected = y.ToBytes();
        using GuardedTensor again = GuardedTensor.Empty([rows, outputs], dtype);
        for (int i = 0; i < 3; i++)
        {
            Gemv.Run(x, w, bias, a?.Tensor, b?.Tensor, Scale, again);
            Assert.Equal(expected, again.ToBytes());
        }

        again.AssertGuards();
        using GuardedTensor plain = GuardedTensor.Empty([rows, outputs], dtype);
        Gemv.Run(x, w, null, null, null, Scale, plain);
        (exact, magnitude) = Reference(op, x, w, null, null, null);
        KernelAssert.Close(op, exact, plain, magnitude);
    }

    [Fact]
    public void A_weights_borders_serve_as_the_low_rank_path()
    {
        // [[W, B], [A, 0]] in one buffer.
        const int K = 128, N = 48, R = 8, Border = 64;
        DType dtype = s_types[^1];
        var random = new RandomTensors(2);
        using GuardedTensor whole = random.Normal([N + R, K + Border], dtype);
        using GuardedTensor x = random.Normal([4, K], dtype);
        using Tensor top = whole.Tensor.Slice(0, 0, N);
        using Tensor bottom = whole.Tensor.Slice(0, N, R);
        using Tensor w = top.Slice(1, 0, K);
        using Tensor b = top.Slice(1, K, R);
        using Tensor a = bottom.Slice(1, 0, K);
        using GuardedTensor y = GuardedTensor.Empty([4, N], dtype);
        Gemv.Run(x, w, null, a, b, Scale, y);

        double[] values = whole.ToDoubles();
        using GuardedTensor wCopy = Part(0, N, 0, K);
        using GuardedTensor bCopy = Part(0, N, K, R);
        using GuardedTensor aCopy = Part(N, R, 0, K);
        var op = new GemvCase(4, K, N, R, dtype);
        (double[] exact, double[] magnitude) = Reference(op, x, wCopy, null, aCopy, bCopy);
        KernelAssert.Close(op, exact, y, magnitude);

        GuardedTensor Part(int row, int rows, int column, int columns) => GuardedTensor.From(
            [.. Enumerable.Range(0, rows * columns).Select(i => values[((row + (i / columns)) * (K + Border)) + column + (i % columns)])],
            [rows, columns],
            dtype);
    }

    /// <summary>A chain of launches that share the workspace, recorded and replayed where the device records.</summary>
    [Fact]
    public void Replays_of_a_chain_give_the_same_bits()
    {
        const int Width = 1040, R = 16;
        DType dtype = s_types[^1];
        var random = new RandomTensors(3);
        using GuardedTensor x = random.Normal([3, Width], dtype);
        using GuardedTensor w = random.Normal([Width, Width], dtype, deviation: 0.03);
        using GuardedTensor a = random.Normal([R, Width], dtype, deviation: 0.03);
        using GuardedTensor b = random.Normal([Width, R], dtype);
        using GuardedTensor middle = GuardedTensor.Empty([3, Width], dtype);
        using GuardedTensor y = GuardedTensor.Empty([3, Width], dtype);
        Chain();
        byte[] expected = y.ToBytes();
        using var graphs = new StepGraphs<int>(TestDevice.Current);
        for (int i = 0; i < 6; i++)
        {
            y.Tensor.Clear();
            graphs.Run(0, 0, _ => Chain());
            Assert.Equal(expected, y.ToBytes());
        }

        void Chain()
        {
            Gemv.Run(x, w, null, a, b, Scale, middle);
            Gemv.Run(middle, w, null, a, b, Scale, y);
        }
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        DType dtype = s_types[0];
        using Tensor x = Tensor.Zeros([3, 8], dtype, TestDevice.Current);
        using Tensor many = Tensor.Zeros([17, 8], dtype, TestDevice.Current);
        using Tensor w = Tensor.Zeros([5, 8], dtype, TestDevice.Current);
        using Tensor a = Tensor.Zeros([2, 8], dtype, TestDevice.Current);
        using Tensor b = Tensor.Zeros([5, 2], dtype, TestDevice.Current);
        using Tensor y = Tensor.Zeros([3, 5], dtype, TestDevice.Current);
        using Tensor yMany = Tensor.Zeros([17, 5], dtype, TestDevice.Current);
        Assert.Contains("16 rows", Message(() => Gemv.Run(many, w, null, a, b, 1, yMany)));
        Assert.Contains("8 columns", Message(() => Gemv.Run(x, b, null, a, b, 1, y)));
        Assert.Contains("go together", Message(() => Gemv.Run(x, w, null, a, null, 1, y)));
        Assert.Contains("b has to", Message(() => Gemv.Run(x, w, null, a, w, 1, y)));
        Assert.Contains("y has to", Message(() => Gemv.Run(x, w, null, a, b, 1, x)));
        Assert.Equal(TestDevice.IsCuda, !Gemv.Supports(TestDevice.Current, DType.F32, 1, 16));
        Assert.False(Gemv.Supports(TestDevice.Current, DType.BF16, 17, 16));

        static string Message(Action action) => Assert.Throws<ArgumentException>(action).Message;
    }

    // x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ and the sums of absolute values.
    private static (double[] Sum, double[] Magnitude) Reference(
        GemvCase op, GuardedTensor x, GuardedTensor w, GuardedTensor? bias, GuardedTensor? a, GuardedTensor? b)
    {
        double[] xs = x.ToDoubles();
        double[] ws = w.ToDoubles();
        double[]? down = a?.ToDoubles();
        double[]? up = b?.ToDoubles();
        double[]? biases = bias?.ToDoubles();
        int rank = down is null ? 0 : op.Rank;
        var sum = new double[op.Rows * op.Outputs];
        var magnitude = new double[sum.Length];
        for (int m = 0; m < op.Rows; m++)
        {
            ReadOnlySpan<double> row = xs.AsSpan(m * op.Inputs, op.Inputs);
            var s = new (double Sum, double Magnitude)[rank];
            for (int j = 0; j < rank; j++)
            {
                s[j] = Dot(row, down.AsSpan(j * op.Inputs, op.Inputs));
            }

            for (int n = 0; n < op.Outputs; n++)
            {
                (double value, double absolute) = Dot(row, ws.AsSpan(n * op.Inputs, op.Inputs));
                value += biases?[n] ?? 0;
                absolute += Math.Abs(biases?[n] ?? 0);
                for (int j = 0; j < rank; j++)
                {
                    value += Scale * s[j].Sum * up![(n * rank) + j];
                    absolute += Scale * s[j].Magnitude * Math.Abs(up[(n * rank) + j]);
                }

                (sum[(m * op.Outputs) + n], magnitude[(m * op.Outputs) + n]) = (value, absolute);
            }
        }

        return (sum, magnitude);
    }

    private static (double Sum, double Magnitude) Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        double sum = 0;
        double magnitude = 0;
        for (int i = 0; i < a.Length; i++)
        {
            sum += a[i] * b[i];
            magnitude += Math.Abs(a[i] * b[i]);
        }

        return (sum, magnitude);
    }
}

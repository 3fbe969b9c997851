using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed partial class GroupedLowRankTests
{
    // By index: mixed ranks, one adapter without a layer, and one that no row uses.
    private static readonly int[] s_ranks = [8, 16, 1, 0, 64, 3, 200];

    /// <summary>Dtype of the activations; tokens of each row, K, N; each row's adapter.</summary>
    public static TheoryData<DType, int[], int[]> Cases
    {
        get
        {
            var data = new TheoryData<DType, int[], int[]>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                // Decoding; with a gap before the last adapter; one adapter for more rows than a tile has.
                data.Add(dtype, [1, 65, 43], [4, 0, -1, 1, 3, 0, 2, 6, -1, 1]);
                data.Add(dtype, [1, 640, 1040], [.. Enumerable.Range(0, 40).Select(i => i < 25 ? 1 : (i % 7) - 1)]);

                // More splits of the inputs than parts of the outputs.
                data.Add(dtype, [1, 1280, 72], [2, 1, 0, -1, 1, 2, 0, 0, 1, 2]);

                // Prompts: several tiles for each adapter, the last ones short.
                data.Add(dtype, [70, 96, 72], [1, -1, 0, 1]);
                data.Add(dtype, [33, 136, 520], [2, 4, 4, 5, 6]);
                data.Add(dtype, [5, 3, 1], [0, 2, 2]);
            }

            data.Add(DType.F32, [1, 8, 8], [-1, 3]);
            data.Add(DType.F32, [0, 8, 8], [0]);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Rows_use_their_own_adapters_and_the_others_keep_their_values(DType dtype, int[] sizes, int[] indices)
    {
        Forward(dtype, sizes, indices, int.MaxValue);

        // On a GPU a table of few ranks has a kernel of its own.
        Forward(dtype, sizes, indices, 16);
    }

    private static void Forward(DType dtype, int[] sizes, int[] indices, int mostRank)
    {
        using var problem = new Problem(dtype, sizes, indices, mostRank);
        using GuardedTensor x = problem.Random.Normal([problem.Rows, problem.K], dtype, rowGap: GuardedTensor.IsAligned ? 8 : 3);
        using GuardedTensor y = problem.Random.Normal([problem.Rows, problem.N], dtype, rowGap: GuardedTensor.IsAligned ? 8 : 1);
        double[] before = y.ToDoubles();
        double[] exact = [.. before];
        double[] magnitude = Absolute(before);
        for (int i = 0; i < problem.Rows; i++)
        {
            if (problem.Layer(i) is { } layer)
            {
                (double[] s, double[] sMagnitude) = layer.Down(x.ToDoubles().AsSpan(i * problem.K, problem.K));
                layer.Up(s, exact.AsSpan(i * problem.N, problem.N), absolute: false);
                layer.Up(sMagnitude, magnitude.AsSpan(i * problem.N, problem.N), absolute: true);
            }
        }

        GroupedLowRank.Forward(x, problem.Indices, problem.Table, y);
        Close(problem.Case(backward: false), exact, y, magnitude);

        // The same bits when S is saved, and from a copied order.
        byte[] expected = y.ToBytes();
        using GuardedTensor again = GuardedTensor.From(before, [problem.Rows, problem.N], dtype, rowGap: GuardedTensor.IsAligned ? 8 : 1);
        using Tensor saved = GroupedLowRank.CreateSaved(x, problem.Indices, problem.Table);
        problem.Indices.Update();
        GroupedLowRank.Forward(x, problem.Indices, problem.Table, again, saved);
        Assert.Equal(expected, again.ToBytes());
        again.AssertGuards();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_adds_each_adapters_gradients(DType dtype, int[] sizes, int[] indices)
    {
        using var problem = new Problem(dtype, sizes, indices);
        (int rows, int k, int n) = (problem.Rows, problem.K, problem.N);
        using GuardedTensor x = problem.Random.Normal([rows, k], dtype, rowGap: 1);
        using GuardedTensor dy = problem.Random.Normal([rows, n], dtype, rowGap: 2);
        using GuardedTensor dx = problem.Random.Normal([rows, k], dtype, rowGap: 3);
        using GuardedTensor y = problem.Random.Normal([rows, n], dtype);
        DType master = problem.Master;
        GuardedTensor?[] dA = [.. s_ranks.Select(r => r == 0 ? null : problem.Random.Normal([r, k], master))];
        GuardedTensor?[] dB = [.. s_ranks.Select(r => r == 0 ? null : problem.Random.Normal([n, r], master))];
        double[] dxExact = dx.ToDoubles();
        double[] dxMagnitude = Absolute(dxExact);
        double[]?[] dAExact = [.. dA.Select(t => t?.ToDoubles())];
        double[]?[] dBExact = [.. dB.Select(t => t?.ToDoubles())];
        double[]?[] dAMagnitude = [.. dAExact.Select(t => t is null ? null : Absolute(t))];
        double[]?[] dBMagnitude = [.. dBExact.Select(t => t is null ? null : Absolute(t))];
        using Tensor saved = GroupedLowRank.CreateSaved(x, problem.Indices, problem.Table);
        GroupedLowRank.Forward(x, problem.Indices, problem.Table, y, saved);
        GroupedGradient[] gradients = [.. dA.Zip(dB, (a, b) => new GroupedGradient(a?.Tensor, b?.Tensor))];
        GroupedLowRank.Backward(dy, x, problem.Indices, problem.Table, saved, dx, gradients);

        (double[] xs, double[] dys) = (x.ToDoubles(), dy.ToDoubles());
        for (int i = 0; i < rows; i++)
        {
            if (problem.Layer(i) is not { } layer)
            {
                continue;
            }

            int a = layer.Index;
            Span<double> row = xs.AsSpan(i * k, k);
            Span<double> gradient = dys.AsSpan(i * n, n);
            (double[] s, double[] sMagnitude) = layer.Down(row);
            (double[] ds, double[] dsMagnitude) = layer.DownOfGradient(gradient);
            for (int j = 0; j < layer.Rank; j++)
            {
                for (int c = 0; c < k; c++)
                {
                    double weight = layer.A[(j * k) + c];
                    dxExact[(i * k) + c] += ds[j] * weight;
                    dxMagnitude[(i * k) + c] += dsMagnitude[j] * Math.Abs(weight);
                    dAExact[a]![(j * k) + c] += ds[j] * row[c];
                    dAMagnitude[a]![(j * k) + c] += dsMagnitude[j] * Math.Abs(row[c]);
                }

                for (int c = 0; c < n; c++)
                {
                    dBExact[a]![(c * layer.Rank) + j] += s[j] * gradient[c];
                    dBMagnitude[a]![(c * layer.Rank) + j] += sMagnitude[j] * Math.Abs(gradient[c]);
                }
            }
        }

        GroupedLowRankCase op = problem.Case(backward: true);
        Close(op, dxExact, dx, dxMagnitude);
        for (int i = 0; i < s_ranks.Length; i++)
        {
            if (dA[i] is not null)
            {
                Close(op, dAExact[i]!, dA[i]!, dAMagnitude[i]!);
                Close(op, dBExact[i]!, dB[i]!, dBMagnitude[i]!);
            }
        }

        // Without what dx held, and without the adapters' gradients.
        using GuardedTensor set = GuardedTensor.Empty([rows, k], dtype);
        GroupedLowRank.Backward(dy, x, problem.Indices, problem.Table, saved, set, [], setX: true);
        using GuardedTensor zero = GuardedTensor.From(new double[rows * k], [rows, k], dtype);
        GroupedLowRank.Backward(dy, x, problem.Indices, problem.Table, saved, zero, []);
        Assert.Equal(zero.ToBytes(), set.ToBytes());
        foreach (GuardedTensor? tensor in dA.Concat(dB))
        {
            tensor?.Dispose();
        }
    }

    [Fact]
    public void Indices_that_change_on_the_device_are_sorted_again()
    {
        const int K = 40, N = 24;
        using var problem = new Problem(DType.F32, [1, K, N], [0, 1, -1, 4]);
        using Tensor x = Tensor.From(Array.ConvertAll(problem.Random.Values(4 * K), v => (float)v), [4, K], TestDevice.Current);
        using Tensor first = Tensor.Zeros([4, N], DType.F32, TestDevice.Current);
        using Tensor second = Tensor.Zeros([4, N], DType.F32, TestDevice.Current);
        using Tensor indices = Tensor.From(new[] { 1, 4, -1, -1 }, [4], TestDevice.Current);
        using var rows = new AdapterRows(indices);
        GroupedLowRank.Forward(x, rows, problem.Table, first);
        indices.CopyFrom<int>([0, 1, -1, 4]);
        rows.Update();
        first.Clear();
        GroupedLowRank.Forward(x, rows, problem.Table, first);
        GroupedLowRank.Forward(x, problem.Indices, problem.Table, second);
        Assert.Equal(second.ToArray<float>(), first.ToArray<float>());
    }

    /// <summary>Recorded once and replayed with other adapters for the rows, where the device records.</summary>
    [Fact]
    public void A_recorded_step_serves_other_adapters()
    {
        const int K = 72, N = 40;
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, [1, K, N], [0, 1, -1, 4]);
        using GuardedTensor x = problem.Random.Normal([4, K], dtype);
        using GuardedTensor y = GuardedTensor.Empty([4, N], dtype);
        using GuardedTensor expected = GuardedTensor.Empty([4, N], dtype);
        using Tensor indices = Tensor.From(new int[4], [4], TestDevice.Current);
        using var rows = new AdapterRows(indices);
        using var graphs = new StepGraphs<int>(TestDevice.Current);
        int[][] assignments = [[0, 0, 0, 0], [4, 1, 0, 5], [-1, 3, 3, -1], [6, 6, 1, 1], [2, -1, 2, 0], [0, 1, 2, 4]];
        foreach (int[] assignment in assignments)
        {
            indices.CopyFrom<int>(assignment);
            rows.Update();
            y.Tensor.Clear();
            graphs.Run(0, 0, _ => GroupedLowRank.Forward(x, rows, problem.Table, y));
            using var fresh = new AdapterRows(assignment, TestDevice.Current);
            expected.Tensor.Clear();
            GroupedLowRank.Forward(x, fresh, problem.Table, expected);
            Assert.Equal(expected.ToBytes(), y.ToBytes());
        }
    }

    [Fact]
    public void A_tables_copies_follow_the_adapters_when_told_to()
    {
        const int K = 32, N = 16;
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, [1, K, N], [1, 0]);
        using GuardedTensor x = problem.Random.Normal([2, K], dtype);
        using Tensor y = Tensor.Zeros([2, N], dtype, TestDevice.Current);
        problem.Table[1]!.Value.B.Clear();
        problem.Table.Refresh();
        GroupedLowRank.Forward(x, problem.Indices, problem.Table, y);
        double[] values = TensorValues.ToDoubles(y);
        Assert.All(values[..N], v => Assert.Equal(0, v));
        Assert.Contains(values[N..], v => v != 0);
    }

    [Fact]
    public void Results_do_not_depend_on_the_thread_count() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            using var problem = new Problem(DType.F32, [40, 200, 96], [0, 1, 1, 4, -1, 2, 6, 0, 4]);
            (int rows, int k, int n) = (problem.Rows, problem.K, problem.N);
            using GuardedTensor x = problem.Random.Normal([rows, k], DType.F32);
            using GuardedTensor dy = problem.Random.Normal([rows, n], DType.F32);
            GuardedTensor y = problem.Random.Normal([rows, n], DType.F32);
            GuardedTensor dx = problem.Random.Normal([rows, k], DType.F32);
            GuardedTensor[] dA = [.. s_ranks.Select(r => problem.Random.Normal([r, k], DType.F32))];
            GuardedTensor[] dB = [.. s_ranks.Select(r => problem.Random.Normal([n, r], DType.F32))];
            using Tensor saved = GroupedLowRank.CreateSaved(x, problem.Indices, problem.Table);
            GroupedLowRank.Forward(x, problem.Indices, problem.Table, y, saved);
            GroupedGradient[] gradients = [.. s_ranks.Select((r, i) => r == 0 ? default : new GroupedGradient(dA[i].Tensor, dB[i].Tensor))];
            GroupedLowRank.Backward(dy, x, problem.Indices, problem.Table, saved, dx, gradients);
            return [y, dx, .. dA, .. dB];
        });

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using var problem = new Problem(DType.F32, [2, 8, 5], [0, 1, 1]);
        using Tensor x = Tensor.Zeros([6, 8], DType.F32, TestDevice.Current);
        using Tensor seven = Tensor.Zeros([7, 8], DType.F32, TestDevice.Current);
        using Tensor narrow = Tensor.Zeros([6, 7], DType.F32, TestDevice.Current);
        using Tensor y = Tensor.Zeros([6, 5], DType.F32, TestDevice.Current);
        using Tensor half = Tensor.Zeros([6, 8], DType.F16, TestDevice.Current);
        Assert.Contains("8 columns", Message(() => GroupedLowRank.Forward(narrow, problem.Indices, problem.Table, y)));
        Assert.Contains("3 rows of the batch", Message(() => GroupedLowRank.Forward(seven, problem.Indices, problem.Table, y)));
        Assert.Contains("f32 as the table", Message(() => GroupedLowRank.Forward(half, problem.Indices, problem.Table, y)));
        Assert.Contains("y has to", Message(() => GroupedLowRank.Forward(x, problem.Indices, problem.Table, x)));
        Assert.Contains("one at least", Message(() => AdapterTable.Create([null, null], DType.F32)));
        Assert.Throws<ArgumentOutOfRangeException>(() => new AdapterRows([256], TestDevice.Current));

        static string Message(Action action) => Assert.Throws<ArgumentException>(action).Message;
    }

    private static void Close(GroupedLowRankCase op, double[] exact, GuardedTensor actual, double[] magnitude)
    {
        DType dtype = actual.Tensor.DType;
        KernelAssert.Close(TestDevice.IsCuda ? op.RoundedError(dtype) : op.Error(dtype), op.Name, exact, actual, magnitude);
    }

    private static double[] Absolute(double[] values) => Array.ConvertAll(values, Math.Abs);
}

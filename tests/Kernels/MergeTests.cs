using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class MergeTests
{
    [Theory]
    [InlineData(DType.F32, false)]
    [InlineData(DType.F32, true)]
    [DoubleData(DType.F64, false)]
    [DoubleData(DType.F64, true)]
    [InlineData(DType.BF16, false)]
    [InlineData(DType.BF16, true)]
    [InlineData(DType.F16, false)]
    [InlineData(DType.F16, true)]
    public void Apply_adds_all_adapters(DType dtype, bool transposed)
    {
        foreach ((int outputs, int inputs) in new[] { (37, 65), (1, 700), (530, 3), (0, 4), (33, 1025) })
        {
            var random = new RandomTensors(1);
            Shape shape = transposed ? [inputs, outputs] : [outputs, inputs];
            using GuardedTensor w = random.Normal(shape, dtype, 0.5, rowGap: 3);
            using GuardedTensor a0 = random.Normal([5, inputs], dtype);
            using GuardedTensor b0 = random.Normal([outputs, 5], dtype);
            using GuardedTensor a1 = random.Normal([3, inputs], dtype);
            using GuardedTensor b1 = random.Normal([outputs, 3], dtype);
            double[] before = w.ToDoubles();
            (double[] a0s, double[] b0s, double[] a1s, double[] b1s) = (a0.ToDoubles(), b0.ToDoubles(), a1.ToDoubles(), b1.ToDoubles());
            var exact = new double[before.Length];
            var magnitude = new double[before.Length];
            for (int n = 0; n < outputs; n++)
            {
                for (int k = 0; k < inputs; k++)
                {
                    int at = transposed ? (k * outputs) + n : (n * inputs) + k;
                    exact[at] = before[at];
                    magnitude[at] = Math.Abs(before[at]);
                    Add(a0s, b0s, 0.3f, 5);
                    Add(a1s, b1s, -2, 3);

                    void Add(double[] a, double[] b, float scale, int rank)
                    {
                        for (int t = 0; t < rank; t++)
                        {
                            double product = (double)scale * b[(n * rank) + t] * a[(t * inputs) + k];
                            exact[at] += product;
                            magnitude[at] += Math.Abs(product);
                        }
                    }
                }
            }

            Merge.Apply([new(w, [new(a0, b0, 0.3f), new(a1, b1, -2)], transposed)]);
            KernelAssert.Close(new MergeCase(outputs, inputs, 8, dtype), exact, w, magnitude);
        }
    }

    /// <summary>Merging and unmerging alone would not pass: the corrections of these cycles are not empty.</summary>
    [Theory]
    [InlineData(DType.F32, 1000)]
    [DoubleData(DType.F64, 200)]
    [InlineData(DType.BF16, 1000)]
    [InlineData(DType.F16, 1000)]
    public void Random_cycles_restore_the_exact_bits(DType dtype, int cycles)
    {
        var sizes = new Random(2);
        long recorded = 0;
        for (int cycle = 0; cycle < cycles; cycle++)
        {
            var random = new RandomTensors(cycle);
            bool transposed = cycle % 2 == 1;
            int outputs = sizes.Next(1, 40);
            int inputs = sizes.Next(1, cycle % 20 == 0 ? 600 : 40);
            DType adapters = cycle % 3 == 0 && dtype != DType.F64 ? DType.F32 : dtype;

            // Some adapters are small beside the matrix, some are larger: then nearly every element needs its bits back.
            float scale = (float)Math.Pow(10, sizes.Next(-3, 3));
            Shape shape = transposed ? [inputs, outputs] : [outputs, inputs];
            using GuardedTensor w = Poisoned(random.Normal(shape, dtype, 0.05), sizes.Next(0, 3), sizes);
            var owned = new List<GuardedTensor>();
            var terms = new MergeTerm[1 + (cycle % 3)];
            for (int t = 0; t < terms.Length; t++)
            {
                int rank = sizes.Next(1, 20);
                owned.Add(random.Normal([rank, inputs], adapters, 0.2));
                owned.Add(random.Normal([outputs, rank], adapters, 0.1));
                terms[t] = new MergeTerm(owned[^2], owned[^1], scale);
            }

            UInt128 hash = TensorHash.Compute(w);
            byte[] bytes = w.ToBytes();
            using MergeCorrections corrections = Merge.ApplyExact([new(w, terms, transposed)]);
            using GuardedTensor plain = GuardedTensor.FromBytes(bytes, shape, dtype);
            Merge.Apply([new(plain, terms, transposed)]);
            Assert.Equal(plain.ToBytes(), w.ToBytes());
            Assert.InRange(corrections.SizeInBytes, 0, bytes.Length + Bookkeeping(w));
            Merge.Undo([new(w, terms, transposed)], corrections);
            w.AssertGuards();
            Assert.Equal(hash, TensorHash.Compute(w));
            Assert.Equal(bytes, w.ToBytes());
            recorded += corrections.Elements;
            owned.ForEach(t => t.Dispose());
        }

        Assert.True(recorded > 1000);
    }

    /// <summary>The CPU's documented order, element by element: the same bits in both layouts, whatever the vectors' width.</summary>
    [Theory]
    [Trait("Device", "Cpu")]
    [InlineData(false)]
    [InlineData(true)]
    public void Delta_is_a_chain_of_fused_multiply_adds(bool transposed)
    {
        foreach (int rank in new[] { 1, 6, 16, 17, 33, 70 })
        {
            AssertChain(transposed, rank);
        }
    }

    private static void AssertChain(bool transposed, int rank)
    {
        const int N = 45, K = 77;
        var random = new RandomTensors(3);
        using GuardedTensor w = random.Normal(transposed ? [K, N] : [N, K], DType.F32);
        using GuardedTensor a = random.Normal([rank, K], DType.F32);
        using GuardedTensor b = random.Normal([N, rank], DType.F32);
        double[] before = w.ToDoubles();
        double[] down = a.ToDoubles();
        double[] up = b.ToDoubles();
        Merge.Apply([new(w, [new(a, b, 0.3f)], transposed)]);
        double[] after = w.ToDoubles();
        for (int n = 0; n < N; n++)
        {
            for (int k = 0; k < K; k++)
            {
                float delta = 0;
                for (int t = 0; t < rank; t++)
                {
                    delta = MathF.FusedMultiplyAdd((float)up[(n * rank) + t] * 0.3f, (float)down[(t * K) + k], delta);
                }

                int at = transposed ? (k * N) + n : (n * K) + k;
                Assert.Equal((float)before[at] + delta, (float)after[at]);
            }
        }
    }

    /// <summary>
    /// The bound of <see cref="MergeCase"/> is for the worst case; here are the errors as they come. With u = 2⁻²⁴ and
    /// S = Σ |scale·b·a| their root mean square is 0.5u·S for a chain of fused multiply-adds, whose roundings have either sign, and
    /// below u·S for tensor cores that cut off (most at rank 1, where nothing averages out); w's addition makes at most 0.6u of
    /// it. On CUDA any one of the products of parts of factors that were missing would be seen: the smallest are 2⁻¹⁷·S,
    /// 7u·S in the mean over 70 ranks.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Delta_has_the_precision_of_f32(bool transposed)
    {
        const int N = 145, K = 277;
        foreach (int rank in new[] { 1, 6, 16, 17, 33, 70 })
        {
            var random = new RandomTensors(rank);
            using GuardedTensor w = random.Normal(transposed ? [K, N] : [N, K], DType.F32, 1e-3);
            using GuardedTensor a = random.Normal([rank, K], DType.F32);
            using GuardedTensor b = random.Normal([N, rank], DType.F32);
            double[] before = w.ToDoubles();
            double[] down = a.ToDoubles();
            double[] up = [.. b.ToDoubles().Select(static x => (double)((float)x * 0.3f))];
            Merge.Apply([new(w, [new(a, b, 0.3f)], transposed)]);
            double[] after = w.ToDoubles();
            double sum = 0;
            for (int i = 0; i < after.Length; i++)
            {
                (int n, int k) = transposed ? (i % N, i / N) : (i / K, i % K);
                (double exact, double magnitude) = (before[i], Math.Abs(before[i]));
                for (int t = 0; t < rank; t++)
                {
                    double product = up[(n * rank) + t] * down[(t * K) + k];
                    (exact, magnitude) = (exact + product, magnitude + Math.Abs(product));
                }

                sum += Math.Pow((after[i] - exact) / magnitude, 2);
            }

            Assert.InRange(Math.Sqrt(sum / after.Length) * (1 << 24), 0, 2);
        }
    }

    /// <summary>
    /// A factor that is no finite number reaches its own row or column, nothing else, and the bits come back. The largest
    /// finite ones stay finite.
    /// </summary>
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Factors_that_are_no_numbers_spoil_their_row_or_column_alone(DType dtype)
    {
        const int N = 41, K = 75, R = 5, Row = 2, Column = 7, Large = 9;
        var random = new RandomTensors(7);
        using GuardedTensor w = random.Normal([N, K], dtype, rowGap: 5);
        double[] down = random.Normal([R, K], DType.F32).ToDoubles();
        double[] up = random.Normal([N, R], DType.F32, 0.01).ToDoubles();
        down[(3 * K) + Column] = double.PositiveInfinity;
        down[(1 * K) + Large] = float.MaxValue;
        up[(Row * R) + 4] = double.NaN;
        using GuardedTensor a = GuardedTensor.From(down, [R, K], DType.F32);
        using GuardedTensor b = GuardedTensor.From(up, [N, R], DType.F32);
        byte[] before = w.ToBytes();
        MergeTarget[] targets = [new(w, [new(a, b, 1)], false)];
        using MergeCorrections corrections = Merge.ApplyExact(targets);
        w.AssertGuards();
        double[] after = w.ToDoubles();
        for (int i = 0; i < after.Length; i++)
        {
            Assert.Equal(i / K != Row && i % K != Column, double.IsFinite(after[i]));
        }

        Merge.Undo(targets, corrections);
        w.AssertGuards();
        Assert.Equal(before, w.ToBytes());
    }

    [Fact]
    public void A_bf16_correction_takes_a_fraction_of_a_byte_for_each_element()
    {
        const int N = 256, K = 512, R = 16;
        var random = new RandomTensors(4);
        using GuardedTensor w = random.Normal([N, K], DType.BF16, 0.02);
        using GuardedTensor a = random.Normal([R, K], DType.BF16, 0.02);
        using GuardedTensor b = random.Normal([N, R], DType.BF16, 0.02);
        using MergeCorrections correction = Merge.ApplyExact([new(w, [new(a, b, 2)], false)]);

        // Δ has a sixth of W's deviation; an element is recorded when W′ falls in a wider binade than W, or W in Δ's own.
        Assert.InRange(correction.Elements, 1, N * K / 5);

        // One byte or two for the place, two for the element.
        long more = Bookkeeping(w);
        Assert.InRange(correction.SizeInBytes, (3 * correction.Elements) + (TestDevice.IsCuda ? 0 : more), (4 * correction.Elements) + more);
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F32)]
    public void Results_do_not_depend_on_the_thread_count(DType dtype) =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            var random = new RandomTensors(5);
            GuardedTensor w = random.Normal([300, 600], dtype);
            using GuardedTensor a = random.Normal([8, 600], dtype);
            using GuardedTensor b = random.Normal([300, 8], dtype);
            using MergeCorrections correction = Merge.ApplyExact([new(w, [new(a, b, 1)], false)]);
            return [w, GuardedTensor.From([correction.SizeInBytes, correction.Elements], [2], DType.F64)];
        });

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor w = Tensor.Zeros([4, 6], DType.F32, TestDevice.Current);
        using Tensor a = Tensor.Zeros([2, 6], DType.F32, TestDevice.Current);
        using Tensor b = Tensor.Zeros([4, 2], DType.F32, TestDevice.Current);
        MergeTerm term = new(a, b, 1);
        Assert.Contains("4 columns", Refused(() => Merge.Apply([new(w, [term], true)])));
        Assert.Contains("[4, 2]", Refused(() => Merge.Apply([new(w, [new(a, a, 1)], false)])));
        Assert.Contains("twice", Refused(() => Merge.Apply([new(w, [term], false), new(w, [term], false)])));
        using MergeCorrections correction = Merge.ApplyExact([new(w, [term], false)]);
        Assert.Contains("1 adapters", Refused(() => Merge.Undo([new(w, [], false)], correction)));
        Assert.Contains("1 matrices", Refused(() => Merge.Undo([], correction)));

        static string Refused(Action call) => Assert.Throws<ArgumentException>(call).Message;
    }

    /// <summary>
    /// What a correction takes beside the records: a byte for each block of 32 rows; on a GPU for each tile of 128 rows of 256
    /// bytes a count, a place and up to 15 bytes to the next multiple of 16.
    /// </summary>
    internal static long Bookkeeping(Tensor w) => TestDevice.IsCuda
        ? (w.Shape[0] + 127) / 128 * (((w.Shape[1] * w.DType.Size()) + 255) / 256) * 27
        : (w.Shape[0] + 31) / 32;

    // The tensor with some elements −0, infinities, NaNs with payloads and subnormal numbers.
    private static GuardedTensor Poisoned(GuardedTensor clean, int rowGap, Random random)
    {
        using GuardedTensor source = clean;
        Tensor w = source.Tensor;
        byte[] bytes = source.ToBytes();
        int size = w.DType.Size();
        for (int n = 0; n < 12; n++)
        {
            int at = (random.Next(w.Shape[0]) * w.Shape[1]) + random.Next(w.Shape[1]);
            Span<byte> element = bytes.AsSpan(at * size, size);
            element.Clear();
            element[^1] = (byte)(n % 2 == 0 ? 0x80 : 0x7F);
            switch (n % 6)
            {
                case 1:
                    random.NextBytes(element[..^1]);
                    element[^2] |= 0xF0;
                    break;
                case 2:
                    element[0] = (byte)random.Next(1, 256);
                    break;
                case 3:
                    element[^2] = w.DType switch { DType.F64 => 0xF0, DType.F16 => 0, _ => 0x80 };
                    element[^1] = w.DType == DType.F16 ? (byte)0x7C : (byte)0x7F;
                    break;
            }
        }

        return GuardedTensor.FromBytes(bytes, w.Shape, w.DType, rowGap);
    }
}

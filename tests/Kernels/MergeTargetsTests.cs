using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Several matrices in one call.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class MergeTargetsTests
{
    /// <summary>Each matrix gets the bits that it gets alone, and all get theirs back.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(300)]
    public void Matrices_of_all_kinds_are_merged_as_one_by_one(int count)
    {
        using var set = new Set(count, seed: count);
        byte[][] before = set.Bytes();
        foreach (MergeTarget target in set.Targets)
        {
            Merge.Apply([target]);
        }

        byte[][] alone = set.Bytes();
        set.Restore(before);
        Merge.Apply(set.Targets);
        Assert.Equal(alone, set.Bytes());
        set.Restore(before);
        using MergeCorrections corrections = Merge.ApplyExact(set.Targets);
        Assert.Equal(alone, set.Bytes());
        Merge.Undo(set.Targets, corrections);
        Assert.Equal(before, set.Bytes());
    }

    /// <summary>
    /// More tiles than a GPU runs at once: of matrices of several tiles each way, or of one each, so that a block passes over hundreds of
    /// them to its next. With one slice of factors at most the GPU takes another kernel, whose blocks stay.
    /// </summary>
    [Theory]
    [InlineData(60, 1000, false)]
    [InlineData(60, 1000, true)]
    [InlineData(700, 20, true)]
    public void Many_tiles_are_merged_as_one_by_one(int count, int most, bool oneSlice)
    {
        using var set = new Set(TestDevice.IsCuda ? count : count / 10, seed: 5, most, oneSlice);
        byte[][] before = set.Bytes();
        foreach (MergeTarget target in set.Targets)
        {
            Merge.Apply([target]);
        }

        byte[][] alone = set.Bytes();
        set.Restore(before);
        Merge.Apply(set.Targets);
        Assert.Equal(alone, set.Bytes());
        set.Restore(before);
        using MergeCorrections corrections = Merge.ApplyExact(set.Targets);
        Assert.Equal(alone, set.Bytes());
    }

    /// <summary>Shared memory of a block: compute capability 9.0, 8.0, and 8.6 and 8.9.</summary>
    [Theory]
    [InlineData(227 << 10, true)]
    [InlineData(163 << 10, false)]
    [InlineData(99 << 10, false)]
    [Trait("Device", "Cpu")]
    public void Strips_are_taken_where_two_blocks_fit(int sharedBytesPerBlock, bool holds) =>
        Assert.Equal(holds, MergeCuda.HoldsStrips(sharedBytesPerBlock));

    [Fact]
    public void Sizes_are_told_for_each_matrix()
    {
        using var set = new Set(9, seed: 3);
        using MergeCorrections corrections = Merge.ApplyExact(set.Targets);
        IReadOnlyList<(long Elements, long Bytes)> sizes = corrections.Sizes();
        Assert.Equal(9, corrections.Count);
        Assert.Equal(corrections.Elements, sizes.Sum(s => s.Elements));
        Assert.Equal(corrections.SizeInBytes, sizes.Sum(s => s.Bytes));
        for (int i = 0; i < sizes.Count; i++)
        {
            Tensor w = set.Targets[i].W;
            Assert.InRange(sizes[i].Elements, 0, w.Elements);
            Assert.InRange(sizes[i].Bytes, 0, w.ByteLength + MergeTests.Bookkeeping(w));
        }
    }

    /// <summary>
    /// Where Δ is larger than W nearly every element is recorded: lists give way to copies, and on a GPU the records overflow the
    /// pool, so that tiles are merged by the second launch. Matrices with few records lie among them.
    /// </summary>
    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Records_that_take_more_than_was_foreseen_restore_the_bits(DType dtype)
    {
        var random = new RandomTensors(4);
        var tensors = new List<GuardedTensor>();
        var targets = new List<MergeTarget>();
        foreach ((int rows, int columns, float scale, int gap) in new[]
            { (130, 700, 1000f, 0), (65, 260, 1e-3f, 3), (200, 513, 30f, 3), (64, 256, 1000f, 8), (70, 300, 0f, 0) })
        {
            tensors.Add(random.Normal([rows, columns], dtype, 0.05, rowGap: gap));
            tensors.Add(random.Normal([4, columns], dtype, 0.2));
            tensors.Add(random.Normal([rows, 4], dtype, 0.1));
            targets.Add(new MergeTarget(tensors[^3], [new(tensors[^2], tensors[^1], scale)], false));
        }

        MergeTarget[] all = [.. targets];
        GuardedTensor[] weights = [.. tensors.Where((_, i) => i % 3 == 0)];
        byte[][] before = Bytes();
        using (MergeCorrections corrections = Merge.ApplyExact(all))
        {
            IReadOnlyList<(long Elements, long Bytes)> sizes = corrections.Sizes();
            Assert.True(sizes[0].Elements > 0.9 * all[0].W.Elements);
            Assert.InRange(sizes[0].Bytes, all[0].W.ByteLength * 9 / 10, all[0].W.ByteLength + MergeTests.Bookkeeping(all[0].W));
            byte[][] merged = Bytes();
            Merge.Undo(all, corrections);
            Assert.Equal(before, Bytes());
            Merge.Apply(all);
            Assert.Equal(merged, Bytes());
        }

        tensors.ForEach(t => t.AssertGuards());
        tensors.ForEach(t => t.Dispose());

        byte[][] Bytes() => [.. weights.Select(w => w.ToBytes())];
    }

    [Fact]
    public void Nothing_to_merge_is_no_error()
    {
        Merge.Apply([]);
        Assert.Empty(Merge.Report([]));
        using MergeCorrections none = Merge.ApplyExact([]);
        Assert.Equal((0, 0L), (none.Count, none.SizeInBytes));
        Merge.Undo([], none);

        // No terms, rank 0, no rows, no columns: W + 0, which only turns −0 into 0.
        using GuardedTensor w = GuardedTensor.From([1, -0.0, 2, -3, 0, 5], [2, 3], DType.BF16);
        using GuardedTensor other = GuardedTensor.From([1, -0.0, 2, -3, 0, 5], [3, 2], DType.F32);
        using GuardedTensor flat = GuardedTensor.Empty([0, 3], DType.F32);
        using GuardedTensor thin = GuardedTensor.Empty([2, 0], DType.F32);
        using GuardedTensor noA = GuardedTensor.Empty([0, 3], DType.F32);
        using GuardedTensor noB = GuardedTensor.Empty([2, 0], DType.F32);
        using GuardedTensor a = GuardedTensor.From([1, 1, 1], [1, 3], DType.F32);
        using GuardedTensor b = GuardedTensor.From([1, 1], [2, 1], DType.F32);
        MergeTarget[] targets =
        [
            new(flat, [new(a, noA.Tensor.Reshape(0, 1), 1)], false), new(w, [], false), new(thin, [new(noB.Tensor.Reshape(1, 0), b, 1)], false),
            new(other, [new(noA, noB, 1)], true),
        ];
        byte[] before = w.ToBytes();
        using MergeCorrections corrections = Merge.ApplyExact(targets);
        Assert.Equal(2, corrections.Elements);
        Assert.Equal([1, 0, 2, -3, 0, 5], w.ToDoubles());
        byte[] merged = w.ToBytes();
        Merge.Undo(targets, corrections);
        Assert.Equal(before, w.ToBytes());
        Merge.Apply(targets);
        Assert.Equal(merged, w.ToBytes());
        Assert.All([w, other, flat, thin], t => t.AssertGuards());
    }

    /// <summary>The CPU takes memory matrix after matrix; a GPU takes it before it changes any.</summary>
    [Fact]
    [Trait("Device", "Cpu")]
    public void Running_out_of_memory_in_the_middle_leaves_all_matrices_as_they_were()
    {
        using var set = new Set(8, seed: 6);
        byte[][] before = set.Bytes();
        MergeMatrix[] matrices = [.. set.Targets.Select(t => new MergeMatrix(RowMatrix.Of("test", t.W, t.W), t.Terms, t.Transposed))];
        matrices[5] = matrices[5] with { Terms = new NoMemory() };
        Assert.Throws<InsufficientMemoryException>(() => MergeCpu.ApplyExact(matrices));
        Assert.Equal(before, set.Bytes());
    }

    private sealed class NoMemory : IReadOnlyList<MergeTerm>
    {
        private bool _failed;

        public int Count => 0;

        public MergeTerm this[int index] => throw new ArgumentOutOfRangeException(nameof(index));

        // Once: there is enough for what puts things right.
        public IEnumerator<MergeTerm> GetEnumerator()
        {
            if (_failed)
            {
                return Enumerable.Empty<MergeTerm>().GetEnumerator();
            }

            _failed = true;
            throw new InsufficientMemoryException();
        }

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }

    /// <summary>Matrices of different extents, dtypes, layouts, row gaps, ranks and numbers of adapters.</summary>
    private sealed class Set : IDisposable
    {
        // The first of one slice at most.
        private const int OneSliceRanks = 4;
        private static readonly int[] s_ranks = [1, 16, 0, 5, 17, 40];

        private readonly List<GuardedTensor> _weights = [];
        private readonly List<GuardedTensor> _factors = [];

        public Set(int count, int seed, int most = 300, bool oneSlice = false)
        {
            var random = new RandomTensors(seed);
            var sizes = new Random(seed);
            Targets = new MergeTarget[count];
            for (int i = 0; i < count; i++)
            {
                // Many matrices are small ones: that there are many is what they test.
                int limit = count > 100 ? 20 : most;
                (int outputs, int inputs) = (sizes.Next(1, limit), sizes.Next(1, limit));
                bool transposed = sizes.Next(2) == 1;
                DType dtype = TestDevice.FloatTypes[sizes.Next(TestDevice.FloatTypes.Count)];
                if (oneSlice && i % 11 == 7)
                {
                    // Nothing of it to merge, between matrices that have tiles.
                    (outputs, inputs) = sizes.Next(2) == 0 ? (0, inputs) : (outputs, 0);
                }

                DType adapters = dtype != DType.F64 && i % 5 > 0 ? DType.F32 : dtype;
                Shape shape = transposed ? [inputs, outputs] : [outputs, inputs];
                _weights.Add(random.Normal(shape, dtype, 0.1, rowGap: i % 4 * 4));
                var terms = new MergeTerm[oneSlice ? 1 : 1 + (i % 3)];
                for (int t = 0; t < terms.Length; t++)
                {
                    int rank = s_ranks[sizes.Next(oneSlice ? OneSliceRanks : s_ranks.Length)];
                    _factors.Add(random.Normal([rank, inputs], adapters, 0.3, rowGap: t));
                    _factors.Add(random.Normal([outputs, rank], adapters, 0.3, rowGap: i % 2));
                    terms[t] = new MergeTerm(_factors[^2], _factors[^1], (t + 1) * 0.1f);
                }

                Targets[i] = new MergeTarget(_weights[i], terms, transposed);
            }
        }

        public MergeTarget[] Targets { get; }

        public byte[][] Bytes()
        {
            _weights.ForEach(w => w.AssertGuards());
            return [.. _weights.Select(w => w.ToBytes())];
        }

        public void Restore(byte[][] bytes)
        {
            for (int i = 0; i < bytes.Length; i++)
            {
                using GuardedTensor source = GuardedTensor.FromBytes(bytes[i], _weights[i].Tensor.Shape, _weights[i].Tensor.DType);
                Copy.Run(source, _weights[i]);
            }
        }

        public void Dispose()
        {
            _weights.ForEach(w => w.Dispose());
            _factors.ForEach(f => f.Dispose());
        }
    }
}

using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer.Tests.Parity;

namespace Engine.Transformer.Tests.Generation;

public class KvCacheTests
{
    private static readonly DType s_precision = TestDevice.IsCuda ? DType.F32 : DType.F64;

    public static TheoryData<string> Names => ArchitectureFixture.Names;

    /// <summary>Tokens fed through the cache in portions give the logits of the whole sequence, in float64 (float32 on a GPU).</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Portions_give_the_logits_of_the_whole(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        using DecoderModel model = fixture.Load(s_precision);
        int[] shape = fixture.Shape("logits");
        int[] ids = fixture.Ids("input_ids");
        using BatchContext dense = BatchContext.Dense(TestDevice.Current, shape[0], shape[1]);
        double[] whole = Logits(model, dense, ids);
        double tolerance = Tolerance(fixture);
        foreach (int[] portions in (int[][])[[1], [shape[1] - 3, 1], [7, 3]])
        {
            using KvCache cache = KvCache.For(model, shape[0], 1);
            int start = 0;
            for (int p = 0; start < shape[1]; p++)
            {
                int length = Math.Min(portions[Math.Min(p, portions.Length - 1)], shape[1] - start);
                double[] part = Portion(model, cache, ids, shape[0], shape[1], start, length);
                for (int i = 0; i < part.Length; i++)
                {
                    int row = i / (length * shape[2]);
                    int rest = i % (length * shape[2]);
                    Assert.Equal(whole[(((row * shape[1]) + start) * shape[2]) + rest], part[i], tolerance);
                }

                start += length;
            }

            Assert.Equal(shape[1], cache.Length);
        }
    }

    /// <summary>Rows that stay go on as if the others had never been there, also when the cache grows afterwards.</summary>
    [Theory]
    [InlineData("llama")]
    [InlineData("mistral")]
    public void Rows_that_are_kept_go_on_unchanged(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        using DecoderModel model = fixture.Load(s_precision);
        int vocabulary = model.Config.VocabularySize;
        const int Rows = 7;
        const int Length = 14;
        int[] ids = [.. Enumerable.Range(0, Rows * Length).Select(i => ((i * 31) + (i * i)) % vocabulary)];
        int[] kept = [0, 2, 3, 6];
        using KvCache cache = KvCache.For(model, Rows, 9);
        Portion(model, cache, ids, Rows, Length, 0, 9);
        cache.KeepRows(kept);
        Assert.Equal(kept.Length, cache.Batch);
        int[] keptIds = [.. kept.SelectMany(r => ids[(r * Length)..((r + 1) * Length)])];
        double[] part = Portion(model, cache, keptIds, kept.Length, Length, 9, Length - 9);
        using BatchContext dense = BatchContext.Dense(TestDevice.Current, kept.Length, Length);
        double[] whole = Logits(model, dense, keptIds);
        for (int r = 0; r < kept.Length; r++)
        {
            for (int i = 0; i < (Length - 9) * vocabulary; i++)
            {
                Assert.Equal(
                    whole[(((r * Length) + 9) * vocabulary) + i],
                    part[(r * (Length - 9) * vocabulary) + i],
                    Tolerance(fixture));
            }
        }
    }

    [Fact]
    public void Rows_must_ascend_and_exist()
    {
        using var cache = new KvCache(1, 3, 4, 1, 2, DType.F32, TestDevice.Current);
        Assert.Throws<ArgumentException>(() => cache.KeepRows([1, 0]));
        Assert.Throws<ArgumentException>(() => cache.KeepRows([1, 1]));
        Assert.Throws<ArgumentException>(() => cache.KeepRows([3]));
        cache.KeepRows([0, 2]);
        Assert.Equal(2, cache.Batch);
    }

    [Fact]
    public void A_cache_doubles_up_to_what_can_be_needed()
    {
        using var cache = new KvCache(1, 2, 10, 1, 4, DType.F32, TestDevice.Current);
        cache.Reserve(11);
        Assert.Equal(20, cache.Capacity);
        cache.Reserve(21, most: 24);
        Assert.Equal(24, cache.Capacity);
        cache.Reserve(30, most: 24);
        Assert.Equal(30, cache.Capacity);
    }

    // float64_max_diff is what float32's rounding does to these logits; float64's does 2^-29 of it. Here two results of one
    // dtype differ, each with a rounding of its own, and the reference's maximum is one draw: a factor of 4 for each.
    private static double Tolerance(ArchitectureFixture fixture) =>
        8 * fixture.Float32Error * (s_precision == DType.F64 ? Math.Pow(2, -29) : 1);

    private static double[] Portion(
        DecoderModel model, KvCache cache, int[] ids, int rows, int rowLength, int start, int length)
    {
        int[] part = new int[rows * length];
        int[] positions = new int[part.Length];
        for (int i = 0; i < part.Length; i++)
        {
            part[i] = ids[(i / length * rowLength) + start + (i % length)];
            positions[i] = start + (i % length);
        }

        cache.Reserve(cache.Length + length);
        using var batch = new BatchContext(TestDevice.Current, rows, length, positions, new int[part.Length]) { Cache = cache };
        return Logits(model, batch, part);
    }

    private static double[] Logits(DecoderModel model, BatchContext batch, int[] ids)
    {
        using Tape tape = Tape.Inference();
        using Variable hidden = model.Hidden(tape, batch, ids);
        using Variable logits = model.Logits(tape, batch, hidden);
        return logits.Value.ToDoubles();
    }
}

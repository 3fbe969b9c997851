using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

public class MemoryHintTests
{
    // 100 MiB of weights, and for each row 50 MiB, or 10 MiB and 40 MiB once when blocks are computed again.
    private static long Estimate(int rows, bool checkpointing) => (checkpointing ? 140 + (10L * rows) : 100 + (50L * rows)) << 20;

    // Of what is there, 95% are taken to be usable.
    private static long Usable(int megabytes) => (long)Math.Ceiling((megabytes << 20) / 0.95);

    [Theory]
    [InlineData(149, 0)]
    [InlineData(150, 1)]
    [InlineData(499, 7)]
    [InlineData(500, 8)]
    [InlineData(100000, 15)]
    public void The_largest_batch_that_fits_is_found(int megabytes, int rows) =>
        Assert.Equal(rows, new MemoryHint(16, 1, false, Estimate).Largest(Usable(megabytes), checkpointed: false, 15));

    [Fact]
    public void Both_a_smaller_batch_and_checkpointing_are_advised_where_they_help()
    {
        string hint = new MemoryHint(32, 2, false, Estimate).For(Usable(500));
        Assert.Contains("--batch-size 8 (--accumulate 8 makes the same step of it)", hint, StringComparison.Ordinal);
        Assert.Contains("--batch-size 32 with --gradient-checkpointing", hint, StringComparison.Ordinal);
        Assert.Contains("526 MiB hold", hint, StringComparison.Ordinal);
    }

    [Fact]
    public void A_batch_that_does_not_divide_the_one_asked_for_is_advised_without_accumulation() => Assert.EndsWith(
        "hold --batch-size 7", new MemoryHint(10, 1, true, (rows, _) => Estimate(rows, false)).For(Usable(460)), StringComparison.Ordinal);

    [Fact]
    public void Checkpointing_alone_may_help() => Assert.EndsWith(
        "hold --batch-size 1 with --gradient-checkpointing",
        new MemoryHint(1, 1, false, (_, again) => again ? 1 << 20 : 100L << 20).For(Usable(50)), StringComparison.Ordinal);

    [Theory]
    [InlineData(true, "not even one row fits")]
    [InlineData(false, "not even one row with --gradient-checkpointing fits")]
    public void Where_nothing_fits_the_hint_says_so(bool checkpointing, string part) =>
        Assert.Contains(part, new MemoryHint(4, 1, checkpointing, Estimate).For(50 << 20), StringComparison.Ordinal);

    [Fact]
    public void The_estimate_counts_an_adapters_weights_and_the_larger_batch()
    {
        using var trial = new Trial(new TrainingOptions { BatchSize = 4 }, Trial.Examples(12));
        long adapter = trial.Run.Trained.Sum(p => p.Value.ByteLength);
        MemoryEstimate small = trial.Run.EstimateMemory(2, checkpointing: false);
        MemoryEstimate large = trial.Run.EstimateMemory(4, checkpointing: false);
        Assert.Equal(trial.Model.Base.Parameters.Values.Sum(p => p.Value.ByteLength) + adapter, small.Weights);
        Assert.Equal((adapter, 2 * adapter), (small.Gradients, small.Optimizer));
        Assert.Equal(2 * small.Activations, large.Activations);
        Assert.Equal(trial.Run.EstimateMemory(12, checkpointing: true), trial.Run.EstimateMemory(100, checkpointing: true));
    }

    [Theory]
    [InlineData(Trial.WithDropout, 2)]
    [InlineData(Trial.Config + """, "use_dora": true """, 0)]
    public void Norms_results_and_an_mlps_inner_product_count_only_where_an_adapter_needs_them_kept(string config, int norms)
    {
        Example[] examples = Trial.Examples(12);
        using var plain = new Trial(new TrainingOptions(), examples);
        using var other = new Trial(new TrainingOptions(), examples, config);
        ModelConfig model = plain.Model.Base.Config;
        Assert.True(model.GatedMlp);
        long tokens = 2L * examples.Max(static e => e.Length);
        Assert.Equal(
            tokens * model.LayerCount * (model.IntermediateSize + (norms * model.HiddenSize)) * plain.Model.Base.DType.Size(),
            other.Run.EstimateMemory(2, checkpointing: false).Activations - plain.Run.EstimateMemory(2, checkpointing: false).Activations);
    }

    [Fact]
    public void A_step_that_does_not_fit_says_what_would_and_can_be_made_again_smaller()
    {
        var device = new LimitedDevice();
        TrainingOptions options = new() { Steps = 2, BatchSize = 8, Shuffle = false };
        using (var trial = new Trial(options, Trial.Examples(16), adapted: ParityRun.Load("arch/llama", device: device)))
        {
            // Room for two rows by the estimate, which is on the safe side: for eight there is none.
            device.Limit = (long)(trial.Run.EstimateMemory(2, checkpointing: false).Total / 0.94);
            string message = Assert.Throws<EngineDataException>(() => trial.Go()).Message;
            Assert.Contains("step 1 does not fit into limited", message, StringComparison.Ordinal);
            Assert.Contains("--batch-size", message, StringComparison.Ordinal);
            Assert.All(trial.Run.Trained, p => Assert.All(p.Gradient!.ToArray<float>(), g => Assert.Equal(0, g)));

            // The first attempt left nothing behind: the steps are those of a run that had the memory.
            device.Limit = long.MaxValue;
            trial.Go();
            using var other = new Trial(options, Trial.Examples(16), adapted: ParityRun.Load("arch/llama", device: Device.Cpu));
            other.Go();
            Assert.Equal(other.Bits(), trial.Bits());
        }

        Assert.Equal(0, device.LiveStorages);
    }
}

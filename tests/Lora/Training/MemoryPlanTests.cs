using Engine.Tensors;

namespace Engine.Lora.Tests;

public class MemoryPlanTests
{
    private static readonly TrainingOptions s_options = new() { BatchSize = 12, Accumulate = 2 };

    // 100 MiB of weights, and for each row 50 MiB, or 10 MiB and 40 MiB once when blocks are computed again.
    private static long Estimate(int rows, bool checkpointing) => (checkpointing ? 140 + (10L * rows) : 100 + (50L * rows)) << 20;

    // Of what is allowed, 95% are planned with.
    private static long Limit(int megabytes) => (long)Math.Ceiling((megabytes << 20) / 0.95);

    [Theory]
    [InlineData(150, 1, 24, false)]
    [InlineData(199, 1, 24, false)]
    [InlineData(200, 2, 12, false)]
    [InlineData(399, 4, 6, false)]
    [InlineData(400, 6, 4, false)]
    [InlineData(700, 12, 2, false)]
    [InlineData(100000, 24, 1, false)]
    public void The_largest_divisor_of_the_steps_rows_that_fits_is_taken(int megabytes, int rows, int passes, bool checkpointing) =>
        Assert.Equal(
            new MemoryPlan(rows, passes, checkpointing, Estimate(rows, checkpointing), Limit(megabytes)),
            MemoryPlan.Choose(Limit(megabytes), s_options, Estimate));

    [Fact]
    public void Blocks_are_computed_again_only_where_not_one_row_fits_otherwise()
    {
        // As before, but a row alone takes 300 MiB.
        MemoryPlan plan = MemoryPlan.Choose(Limit(210), s_options, static (rows, again) => again ? Estimate(rows, true) : 300L << 20);
        Assert.Equal((6, 4, true), (plan.BatchSize, plan.Accumulate, plan.GradientCheckpointing));
    }

    [Fact]
    public void Checkpointing_that_was_asked_for_stays() =>
        Assert.True(MemoryPlan.Choose(long.MaxValue / 2, s_options with { GradientCheckpointing = true }, Estimate).GradientCheckpointing);

    [Fact]
    public void Where_nothing_fits_the_message_says_what_would_be_needed()
    {
        string message = Assert.Throws<EngineDataException>(() => MemoryPlan.Choose(100L << 20, s_options, Estimate)).Message;
        Assert.Contains("option \"max_memory\" is 100 MiB; one row takes 157.9 MiB even with gradient checkpointing", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_plan_says_what_it_chose()
    {
        Assert.Equal(
            "6 rows in a forward pass, 4 of them in a step, no checkpointing: 400 MiB by estimate, of 421.1 MiB allowed",
            MemoryPlan.Choose(Limit(400), s_options, Estimate).ToString());
        Assert.Equal(
            "1 row in a forward pass, which is a step, blocks computed again in the backward pass: 150 MiB by estimate, of 20 GiB allowed",
            new MemoryPlan(1, 1, true, 150L << 20, 20L << 30).ToString());
    }

    [Theory]
    [InlineData("20GiB", 20L << 30)]
    [InlineData("1.5 GB", 1_500_000_000L)]
    [InlineData("800mib", 800L << 20)]
    [InlineData("64B", 64L)]
    [InlineData("20", null)]
    [InlineData("GiB", null)]
    [InlineData("-1GiB", null)]
    [InlineData("0GB", null)]
    [InlineData("1e30TiB", null)]
    public void Sizes_are_read_with_their_units(string text, long? bytes) => Assert.Equal(bytes, MemoryPlan.ParseSize(text));

    [Fact]
    public void A_size_without_a_unit_is_refused()
    {
        var options = new TrainingOptions { Model = "m", Data = "d", Out = "o", MaxMemory = "20" };
        string message = Assert.Throws<EngineDataException>(options.Validate).Message;
        Assert.Contains("option \"max_memory\" is 20; expected a number with a unit, such as 20GiB", message, StringComparison.Ordinal);
    }

    // The estimate is what a plan stands on: a step of the small models takes no more on a device that counts.
    [Theory]
    [InlineData("arch/llama", false)]
    [InlineData("arch/llama", true)]
    [InlineData("arch/gpt2", false)]
    public void A_step_takes_no_more_than_its_estimate(string model, bool checkpointing)
    {
        var device = new LimitedDevice();
        TrainingOptions options = new() { Steps = 1, BatchSize = 8, Shuffle = false, GradientCheckpointing = checkpointing };
        using var trial = new Trial(options, Trial.Examples(16), adapted: ParityRun.Load(model, device: device));
        long estimate = trial.Run.EstimateMemory(8, checkpointing).Total;
        trial.Go();
        Assert.InRange(device.PeakBytes, estimate / 4, estimate);
    }
}

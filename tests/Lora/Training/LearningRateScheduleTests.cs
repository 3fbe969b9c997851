using System.Text.Json;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class LearningRateScheduleTests
{
    /// <summary>
    /// The rates that transformers' schedules gave over 30 steps from 5e-3. The formula is evaluated in the same order
    /// in f64; two libraries' cosine may differ in the last place, which four units in the last place of 1 cover.
    /// </summary>
    [Theory]
    [InlineData("constant_warmup", ScheduleKind.Constant, 5)]
    [InlineData("linear_warmup", ScheduleKind.Linear, 5)]
    [InlineData("cosine", ScheduleKind.Cosine, 0)]
    [InlineData("cosine_warmup_clip", ScheduleKind.Cosine, 5)]
    public void Rates_are_those_of_transformers(string name, ScheduleKind kind, int warmup)
    {
        using JsonDocument json = Parity.Json("optim", name, "case.json");
        double[] expected = [.. json.RootElement.GetProperty("train").GetProperty("lr").EnumerateArray().Select(v => v.GetDouble())];
        var schedule = new LearningRateSchedule(kind, 5e-3, warmup, 30);
        Assert.Equal(30, expected.Length);
        for (int step = 0; step < expected.Length; step++)
        {
            Assert.True(
                Math.Abs(expected[step] - schedule.At(step)) <= 5e-3 * 4 * 2.220446049250313e-16,
                $"step {step}: expected {expected[step]:R}, found {schedule.At(step):R}");
        }
    }

    [Theory]
    [InlineData(ScheduleKind.Constant, 1.0)]
    [InlineData(ScheduleKind.Linear, 0.0)]
    [InlineData(ScheduleKind.Cosine, 0.0)]
    public void After_the_last_step_it_stays(ScheduleKind kind, double factor)
    {
        var schedule = new LearningRateSchedule(kind, 2.0, 3, 10);
        Assert.Equal(0.0, schedule.At(0));
        Assert.Equal(1.0, schedule.Factor(3));
        Assert.Equal(factor, schedule.Factor(10));
        Assert.Equal(factor, schedule.Factor(25));
    }

    [Fact]
    public void Without_warm_up_the_first_step_has_the_peak()
    {
        foreach (ScheduleKind kind in Enum.GetValues<ScheduleKind>())
        {
            Assert.Equal(3.0, new LearningRateSchedule(kind, 3.0, 0, 10).At(0));
        }
    }

    /// <summary>transformers divides by max(1, T − w), so a warm-up as long as the run is allowed.</summary>
    [Fact]
    public void A_run_that_is_all_warm_up_never_reaches_the_peak()
    {
        var schedule = new LearningRateSchedule(ScheduleKind.Linear, 1.0, 4, 4);
        Assert.Equal([0.0, 0.25, 0.5, 0.75, 0.0], Enumerable.Range(0, 5).Select(schedule.At));
    }

    [Fact]
    public void Arguments_are_checked()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new LearningRateSchedule(ScheduleKind.Linear, -1, 0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LearningRateSchedule(ScheduleKind.Linear, 1, -1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LearningRateSchedule(ScheduleKind.Linear, 1, 0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LearningRateSchedule(ScheduleKind.Linear, 1, 0, 1).At(-1));
    }
}

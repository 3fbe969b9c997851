namespace Engine.Kernels.Tests;

[Trait("Device", "Cpu")]
public sealed class RandomNumbersTests
{
    private const int Count = 200_000;

    // For n values the mean of a distribution with deviation σ is off by σ/√n and the deviation by about σ/√(2n), each with
    // probability 1e-6 by more than five times that.
    [Fact]
    public void Normal_has_its_mean_and_deviation()
    {
        var values = new float[Count];
        RandomNumbers.Normal(7, 1, values, 0.5f);
        double mean = values.Average(v => (double)v);
        double deviation = Math.Sqrt(values.Average(v => (v - mean) * (v - mean)));
        Assert.InRange(mean, -5 * 0.5 / Math.Sqrt(Count), 5 * 0.5 / Math.Sqrt(Count));
        Assert.InRange(deviation, 0.5 * (1 - (5 / Math.Sqrt(2.0 * Count))), 0.5 * (1 + (5 / Math.Sqrt(2.0 * Count))));
    }

    [Fact]
    public void Uniform_fills_its_range_evenly()
    {
        var values = new float[Count];
        RandomNumbers.Uniform(7, 2, values, 3);
        Assert.All(values, v => Assert.InRange(v, -3, 3));
        int[] counts = new int[10];
        foreach (float value in values)
        {
            counts[Math.Min(9, (int)((value + 3) / 0.6))]++;
        }

        // A bin's count is binomial with variance n·0.1·0.9.
        double allowed = 5 * Math.Sqrt(Count * 0.09);
        Assert.All(counts, c => Assert.InRange(c, (Count / 10) - allowed, (Count / 10) + allowed));
    }

    [Fact]
    public void Values_depend_on_seed_stream_and_index_alone()
    {
        var whole = new float[100];
        var start = new float[37];
        var other = new float[100];
        RandomNumbers.Normal(1, RandomNumbers.StreamOf("a"), whole, 1);
        RandomNumbers.Normal(1, RandomNumbers.StreamOf("a"), start, 1);
        RandomNumbers.Normal(1, RandomNumbers.StreamOf("b"), other, 1);
        Assert.Equal(whole[..37], start);
        Assert.DoesNotContain(true, whole.Zip(other, (x, y) => x == y));
    }
}

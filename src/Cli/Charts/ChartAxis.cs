namespace Engine.Cli;

/// <summary>A linear axis: maps values to pixels and has round numbers as ticks.</summary>
internal sealed class ChartAxis
{
    private const int WantedTicks = 6;

    private readonly double _min;
    private readonly double _max;
    private readonly double _from;
    private readonly double _to;

    public ChartAxis(double min, double max, double from, double to, bool wholeNumbers = false)
    {
        double span = max > min ? max - min : 1;
        double step = Math.Pow(10, Math.Floor(Math.Log10(span / WantedTicks)));
        step *= (span / WantedTicks / step) switch { > 5 => 10, > 2 => 5, > 1 => 2, _ => 1 };
        if (wholeNumbers)
        {
            step = Math.Max(1, step);
        }

        _min = Math.Floor(min / step) * step;
        _max = wholeNumbers ? Math.Max(max, _min + step) : Math.Ceiling((min + span) / step) * step;
        (_from, _to) = (from, to);
        int count = (int)Math.Floor(((_max - _min) / step) + 1e-9) + 1;
        Ticks = [.. Enumerable.Range(0, count).Select(i => _min + (i * step))];
    }

    /// <summary>Values to mark, rising.</summary>
    public IReadOnlyList<double> Ticks { get; }

    /// <summary>The pixel of a value.</summary>
    public double At(double value) => _from + ((value - _min) / (_max - _min) * (_to - _from));
}

using System.Diagnostics;
using System.Globalization;

namespace Engine.Bench;

/// <summary>
/// How much of the machine other processes used since this object was made: figures taken beside a busy neighbour say
/// little, and should say so.
/// </summary>
internal sealed class OtherLoad
{
    private const string StatFile = "/proc/stat";

    /// <summary>Linux counts processor time here in hundredths of a second.</summary>
    private const double TicksPerSecond = 100;

    private readonly double _busy = Busy();
    private readonly double _own = Own();
    private readonly long _start = Stopwatch.GetTimestamp();

    /// <summary>Cores' worth of processor time that others used, or null where the system does not tell.</summary>
    public double? Cores()
    {
        double others = Busy() - _busy - (Own() - _own);
        return double.IsNaN(others) ? null : Math.Max(0, others) / Stopwatch.GetElapsedTime(_start).TotalSeconds;
    }

    /// <summary>Seconds that all cores together spent on anything but idling and waiting for disks.</summary>
    private static double Busy()
    {
        if (!File.Exists(StatFile))
        {
            return double.NaN;
        }

        // cpu user nice system idle iowait irq softirq steal …
        string[] fields = File.ReadLines(StatFile).First().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        double Field(int index) => double.Parse(fields[index], CultureInfo.InvariantCulture);
        return (Field(1) + Field(2) + Field(3) + Field(6) + Field(7) + Field(8)) / TicksPerSecond;
    }

    private static double Own()
    {
        using var process = Process.GetCurrentProcess();
        return process.TotalProcessorTime.TotalSeconds;
    }
}

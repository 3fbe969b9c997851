using System.Text.Json;
using Engine.Cli.Bench;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Profiling;

/// <summary>
/// All launches of one kernel together. The first of several counts with the mean of the others: the driver loads the code
/// for it, between the events.
/// </summary>
/// <param name="Kernel">Its name.</param>
/// <param name="Count">Launches.</param>
/// <param name="Microseconds">Their time.</param>
/// <param name="Share">Of the time of all kernels.</param>
/// <param name="Bytes">What they must at least move; 0 when not said.</param>
/// <param name="Flops">Operations; 0 when not said.</param>
internal sealed record KernelTotal(string Kernel, long Count, double Microseconds, double Share, long Bytes, long Flops)
{
    public double BytesPerSecond => Bytes == 0 ? double.NaN : 1e6 * Bytes / Microseconds;

    public double FlopsPerSecond => Flops == 0 ? double.NaN : 1e6 * Flops / Microseconds;

    /// <summary>By kernel, the most time first.</summary>
    public static IReadOnlyList<KernelTotal> Of(IReadOnlyList<KernelSample> samples)
    {
        var totals = samples.GroupBy(s => s.Kernel)
            .Select(g => (Kernel: g.Key, Count: g.LongCount(), Time: Time([.. g]), Bytes: g.Sum(s => s.Work.Bytes), Flops: g.Sum(s => s.Work.Flops))).ToList();
        double all = totals.Sum(t => t.Time);
        return [.. totals.Select(g => new KernelTotal(g.Kernel, g.Count, g.Time, g.Time / all, g.Bytes, g.Flops))
            .OrderByDescending(t => t.Microseconds).ThenBy(t => t.Kernel, StringComparer.Ordinal)];
    }

    private static double Time(KernelSample[] launches)
    {
        double others = launches.Skip(1).Sum(s => s.Microseconds);
        return launches.Length == 1 ? launches[0].Microseconds : others * launches.Length / (launches.Length - 1);
    }

    /// <summary>A table's row.</summary>
    public string[] Row(DevicePeaks peaks) =>
    [
        Kernel, Results.Count(Count), Results.Figure(Microseconds), Results.Percent(Share), Results.Figure(Microseconds / Count),
        Results.Figure(BytesPerSecond / 1e9), Results.Figure(FlopsPerSecond / 1e12),
        Results.Percent(BytesPerSecond / peaks.CopyBytesPerSecond), Results.Percent(FlopsPerSecond / peaks.MatMulFlopsPerSecond),
    ];

    /// <summary>The same as a JSON object.</summary>
    public void Write(Utf8JsonWriter json, DevicePeaks peaks)
    {
        json.WriteStartObject();
        json.WriteString("kernel", Kernel);
        json.WriteNumber("count", Count);
        json.WriteNumber("microseconds", Microseconds);
        json.WriteNumber("share", Share);
        json.WriteNumber("bytes", Bytes);
        json.WriteNumber("flops", Flops);
        json.WriteFinite("bytes_per_second", BytesPerSecond);
        json.WriteFinite("flops_per_second", FlopsPerSecond);
        json.WriteFinite("share_of_copy", BytesPerSecond / peaks.CopyBytesPerSecond);
        json.WriteFinite("share_of_matmul", FlopsPerSecond / peaks.MatMulFlopsPerSecond);
        json.WriteEndObject();
    }
}

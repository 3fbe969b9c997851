using System.Text.Json;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Profiling;

/// <summary>
/// A profile in the Trace Event Format, which Perfetto and Chrome's tracing page show: kernels on one track, the ranges they
/// ran in on another, nested. Times are microseconds. Source: Duca and Sinclair, Trace Event Format, 2016.
/// </summary>
internal static class TraceFile
{
    private const int RangeTrack = 0;
    private const int KernelTrack = 1;

    /// <summary>Writes samples in the order of their launches.</summary>
    public static void Write(Stream stream, string device, IReadOnlyList<KernelSample> samples)
    {
        using var json = new Utf8JsonWriter(stream);
        json.WriteStartObject();
        json.WriteString("displayTimeUnit", "ms");
        json.WriteStartArray("traceEvents");
        WriteName(json, "process_name", RangeTrack, device);
        WriteName(json, "thread_name", RangeTrack, "ranges");
        WriteName(json, "thread_name", KernelTrack, "kernels");
        foreach (KernelSample sample in samples)
        {
            WriteSlice(json, sample.Kernel, KernelTrack, sample.StartMicroseconds, sample.Microseconds, sample);
        }

        foreach (RangeSlice range in RangeSlice.Of(samples))
        {
            WriteSlice(json, range.Name, RangeTrack, range.Start, range.End - range.Start, null);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteName(Utf8JsonWriter json, string what, int track, string name)
    {
        json.WriteStartObject();
        json.WriteString("ph", "M");
        json.WriteString("name", what);
        json.WriteNumber("pid", 0);
        json.WriteNumber("tid", track);
        json.WriteStartObject("args");
        json.WriteString("name", name);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteSlice(Utf8JsonWriter json, string name, int track, double start, double duration, KernelSample? sample)
    {
        json.WriteStartObject();
        json.WriteString("ph", "X");
        json.WriteString("name", name);
        json.WriteNumber("pid", 0);
        json.WriteNumber("tid", track);
        json.WriteNumber("ts", Math.Round(start, 3));
        json.WriteNumber("dur", Math.Round(duration, 3));
        if (sample is { } kernel)
        {
            json.WriteStartObject("args");
            json.WriteString("range", kernel.Range);
            json.WriteNumber("bytes", kernel.Work.Bytes);
            json.WriteNumber("flops", kernel.Work.Flops);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }
}

/// <summary>The time between the first and the last kernel of a range that was entered once.</summary>
/// <param name="Name">The range's own name.</param>
/// <param name="Depth">Ranges around it.</param>
/// <param name="Start">Start of its first kernel.</param>
/// <param name="End">End of its last kernel.</param>
internal sealed record RangeSlice(string Name, int Depth, double Start, double End)
{
    /// <summary>
    /// The slices behind samples in the order of their launches: consecutive samples whose ranges begin alike share the
    /// slices of the beginning. An outer slice comes before those in it.
    /// </summary>
    public static IReadOnlyList<RangeSlice> Of(IReadOnlyList<KernelSample> samples)
    {
        var slices = new List<RangeSlice>();
        var open = new List<int>();
        foreach (KernelSample sample in samples)
        {
            string[] names = sample.Range.Split('/', StringSplitOptions.RemoveEmptyEntries);
            double end = sample.StartMicroseconds + sample.Microseconds;
            int common = 0;
            while (common < open.Count && common < names.Length && slices[open[common]].Name == names[common])
            {
                slices[open[common]] = slices[open[common]] with { End = end };
                common++;
            }

            open.RemoveRange(common, open.Count - common);
            for (int depth = common; depth < names.Length; depth++)
            {
                open.Add(slices.Count);
                slices.Add(new RangeSlice(names[depth], depth, sample.StartMicroseconds, end));
            }
        }

        return slices;
    }
}

using System.Globalization;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>What the timed steps did.</summary>
internal sealed record TrainBenchResult
{
    /// <summary>Of each timed step.</summary>
    public required double[] Milliseconds { get; init; }

    public required long TokensPerStep { get; init; }

    /// <summary>Bytes in tensors at most, loading included.</summary>
    public required long PeakAllocatedBytes { get; init; }

    /// <summary>Bytes taken from the driver at most; 0 on the CPU.</summary>
    public required long PeakReservedBytes { get; init; }

    /// <summary>From the process's start to the end of the first step.</summary>
    public required double SecondsToFirstStep { get; init; }

    public required double SecondsToLoad { get; init; }

    /// <summary>The checkpoint's bytes over the time to load it.</summary>
    public required double LoadBytesPerSecond { get; init; }

    /// <summary>Of all steps, those before the timed ones included.</summary>
    public required double[] Losses { get; init; }

    public required long TrainedParameters { get; init; }

    public required DType DType { get; init; }

    /// <summary>Whether steps are recorded and replayed.</summary>
    public required bool Graphs { get; init; }

    /// <summary>What the model asks for (<see cref="Engine.Lora.ModelFlops"/>).</summary>
    public required double FlopsPerStep { get; init; }

    /// <summary>The device's nominal FLOP/s, where it is known.</summary>
    public required double? PeakFlops { get; init; }

    public double FlopsPerSecond => 1000 * FlopsPerStep / Median;

    public double Median => DeviceTimer.Median(Milliseconds);

    public double TokensPerSecond => 1000 * TokensPerStep / Median;

    /// <summary>Names and texts for people.</summary>
    public IEnumerable<(string Name, string Value)> Pairs() =>
    [
        ("step", $"{Results.Figure(Median)} ms (median of {Milliseconds.Length}, {Results.Figure(Milliseconds.Min())} to {Results.Figure(Milliseconds.Max())})"),
        ("speed", $"{Results.Figure(TokensPerSecond)} tokens/s"),
        ("model work", $"{Results.Figure(FlopsPerSecond / 1e12)} TFLOP/s" + (PeakFlops is { } peak ? string.Create(CultureInfo.InvariantCulture, $", {100 * FlopsPerSecond / peak:0.0}% of the GPU's nominal {peak / 1e12:0} (MFU)") : "")),
        ("peak memory", $"{Results.Bytes(PeakAllocatedBytes)} in tensors" + (PeakReservedBytes == 0 ? "" : $", {Results.Bytes(PeakReservedBytes)} reserved")),
        ("first step", $"{Results.Figure(SecondsToFirstStep)} s after the process's start"),
        ("loading", $"{Results.Figure(SecondsToLoad)} s, {Results.Figure(LoadBytesPerSecond / 1e9)} GB/s"),
        ("loss", $"{Results.Figure(Losses[0])} → {Results.Figure(Losses[^1])} in {Losses.Length} steps"),
        ("trained", $"{Results.Count(TrainedParameters)} parameters over a base in {DType.Name()}{(Graphs ? ", steps replayed as graphs" : "")}"),
    ];

    /// <summary>Everything as JSON.</summary>
    public void Write(Stream stream, TrainBench bench, Device device)
    {
        using var json = new Utf8JsonWriter(stream, Results.Indented);
        json.WriteStartObject();
        json.WriteString("model", Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(bench.Model))));
        json.WriteNumber("batch", bench.Rows);
        json.WriteNumber("length", bench.Length);
        json.WriteString("method", bench.Adapter is null ? "full" : "lora");
        if (bench.Adapter is { } adapter)
        {
            json.WriteNumber("rank", adapter.Rank);
            json.WriteNumber("alpha", adapter.Alpha);
            json.WriteString("targets", adapter.TargetModules!.ToString());
        }

        json.WriteBoolean("gradient_checkpointing", bench.Checkpointing);
        json.WriteString("dtype", DType.Name());
        json.WriteBoolean("graphs", Graphs);
        json.WriteNumber("warmup", bench.Warmup);
        json.WriteNumber("steps", bench.Steps);
        json.WriteNumber("trained_parameters", TrainedParameters);
        json.WriteNumber("model_flops_per_step", FlopsPerStep);
        json.WriteNumber("ms_per_step_median", Median);
        json.WriteNumber("ms_per_step_wall", Milliseconds.Average());
        json.WriteNumbers("ms_per_step_all", Milliseconds);
        json.WriteNumber("tokens_per_second", TokensPerSecond);
        json.WriteNumber("peak_allocated_bytes", PeakAllocatedBytes);
        json.WriteNumber("peak_reserved_bytes", PeakReservedBytes);
        json.WriteNumber("seconds_to_first_step", SecondsToFirstStep);
        json.WriteNumber("seconds_to_load", SecondsToLoad);
        json.WriteNumber("load_bytes_per_second", LoadBytesPerSecond);
        json.WriteNumbers("losses", Losses);
        BenchMachine.Write(json, device);
        json.WriteEndObject();
    }
}

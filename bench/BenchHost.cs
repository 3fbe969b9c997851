using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Engine.Bench;

/// <summary>Where and when a benchmark ran; heads every result.</summary>
internal sealed record BenchHost(string Cpu, int Cores, string Os, string Runtime, string Date, string Commit)
{
    public static BenchHost Current() => new(
        CpuModel(),
        Environment.ProcessorCount,
        RuntimeInformation.OSDescription,
        RuntimeInformation.FrameworkDescription,
        DateTime.UtcNow.ToString("yyyy-MM-dd HH:mm") + " UTC",
        CommitOfBuild());

    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("host");
        json.WriteString("cpu", Cpu);
        json.WriteNumber("cores", Cores);
        json.WriteString("os", Os);
        json.WriteString("runtime", Runtime);
        json.WriteString("date", Date);
        json.WriteString("commit", Commit);
        json.WriteEndObject();
    }

    public override string ToString() => $"{Cpu}, {Cores} cores; {Os}; {Runtime}; {Date}; commit {Commit}";

    /// <summary>Median of the samples; reorders them.</summary>
    public static double Median(double[] samples)
    {
        Array.Sort(samples);
        int middle = samples.Length / 2;
        return samples.Length % 2 == 1 ? samples[middle] : (samples[middle - 1] + samples[middle]) / 2;
    }

    /// <summary>Seconds that one of <paramref name="calls"/> calls takes, timed together.</summary>
    public static double Time(Action action, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
        {
            action();
        }

        return Stopwatch.GetElapsedTime(start).TotalSeconds / calls;
    }

    private static string CpuModel()
    {
        const string CpuInfo = "/proc/cpuinfo";
        if (File.Exists(CpuInfo))
        {
            string[] fields = ["model name", "cpu family", "model\t", "stepping"];
            string[] lines = File.ReadAllLines(CpuInfo);
            string Value(string field) =>
                lines.FirstOrDefault(l => l.StartsWith(field, StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "?";
            return $"{Value(fields[0])} (family {Value(fields[1])}, model {Value(fields[2])}, stepping {Value(fields[3])})";
        }

        return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? RuntimeInformation.ProcessArchitecture.ToString();
    }

    /// <summary>The commit that the build recorded in the informational version, "version+commit".</summary>
    private static string CommitOfBuild()
    {
        string? version = Assembly.GetExecutingAssembly().GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion;
        int plus = version?.IndexOf('+', StringComparison.Ordinal) ?? -1;
        return plus >= 0 ? version![(plus + 1)..] : "unknown";
    }
}

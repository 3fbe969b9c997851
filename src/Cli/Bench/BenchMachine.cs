using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Engine.Kernels.Cpu;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Bench;

/// <summary>What was measured on: for the head of result files.</summary>
internal static class BenchMachine
{
    private const string DriverFile = "/proc/driver/nvidia/version";

    /// <summary>Seconds since the process was started, the runtime's own start included.</summary>
    public static double SecondsSinceStart()
    {
        using var process = Process.GetCurrentProcess();
        return (DateTime.UtcNow - process.StartTime.ToUniversalTime()).TotalSeconds;
    }

    /// <summary>Writes the device, its driver, the program and the date.</summary>
    public static void Write(Utf8JsonWriter json, Device device)
    {
        var cuda = device as CudaDevice;
        json.WriteString("device", device.Name);
        json.WriteString("gpu", cuda?.Context.DeviceName);
        json.WriteString("driver", cuda is null ? null : DriverVersion());
        json.WriteString("driver_cuda_version", cuda is null ? null : CudaInfo.VersionText(cuda.Context.DriverVersion));
        json.WriteString("processor", MachineInfo.Read().Processor);
        json.WriteNumber("threads", CpuParallel.ThreadCount);
        json.WriteString("engine", EngineVersion.Full);
        json.WriteString("date", DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture));
    }

    // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue …": the first word that begins with a digit and has a dot.
    private static string? DriverVersion()
    {
        try
        {
            return File.ReadLines(DriverFile).FirstOrDefault()?.Split(' ').FirstOrDefault(w => w.Length > 0 && char.IsAsciiDigit(w[0]) && w.Contains('.'));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

using System.Globalization;
using System.Text.Json;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli;

/// <summary>The GPUs of the machine, or why there are none to use.</summary>
/// <param name="DriverVersion">The CUDA version the driver supports, such as 13000 for 13.0; 0 when unknown.</param>
/// <param name="Gpus">The GPUs.</param>
/// <param name="Unavailable">Why CUDA cannot be used, or null.</param>
internal sealed record CudaInfo(int DriverVersion, IReadOnlyList<CudaDeviceInfo> Gpus, string? Unavailable)
{
    /// <summary>The driver's CUDA version, such as <c>13.0</c>; null when unknown.</summary>
    public string? Driver => DriverVersion == 0 ? null : VersionText(DriverVersion);

    /// <summary>Asks the driver; opens no device.</summary>
    public static CudaInfo Read()
    {
        int version = 0;
        try
        {
            IReadOnlyList<CudaDeviceInfo> gpus = CudaDeviceInfo.All(out version);
            return new CudaInfo(version, gpus, null);
        }
        catch (EngineDataException error)
        {
            return new CudaInfo(version, [], error.Message);
        }
    }

    public static string VersionText(int version) =>
        string.Create(CultureInfo.InvariantCulture, $"{version / 1000}.{version % 1000 / 10}");

    /// <summary>A compute capability as NVIDIA writes it, such as <c>9.0</c>.</summary>
    public static string CapabilityText(int capability) =>
        string.Create(CultureInfo.InvariantCulture, $"{capability / 10}.{capability % 10}");

    /// <summary>Names and texts for people.</summary>
    public IEnumerable<(string Name, string Value)> Pairs()
    {
        if (Unavailable is not null)
        {
            yield return ("cuda", $"not available: {Unavailable}");
            yield break;
        }

        yield return ("cuda", $"driver for CUDA {Driver}");
        foreach (CudaDeviceInfo gpu in Gpus)
        {
            string support = gpu.IsSupported ? "" : $"; not supported, the kernels need {CapabilityText(CudaContext.OldestCapability)}";
            yield return (
                $"cuda:{gpu.Ordinal}",
                $"{gpu.Name}, compute capability {CapabilityText(gpu.ComputeCapability)}, {Results.Bytes(gpu.TotalBytes)}, " +
                $"{gpu.Multiprocessors} multiprocessors, L2 {Results.Bytes(gpu.L2Bytes)}{support}");
        }
    }

    /// <summary>The same as a JSON object.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteBoolean("available", Unavailable is null);
        json.WriteString("why_unavailable", Unavailable);
        json.WriteString("driver_cuda_version", Driver);
        json.WriteStartArray("gpus");
        foreach (CudaDeviceInfo gpu in Gpus)
        {
            json.WriteStartObject();
            json.WriteString("device", $"cuda:{gpu.Ordinal}");
            json.WriteString("name", gpu.Name);
            json.WriteString("compute_capability", CapabilityText(gpu.ComputeCapability));
            json.WriteBoolean("supported", gpu.IsSupported);
            json.WriteNumber("memory_bytes", gpu.TotalBytes);
            json.WriteNumber("multiprocessors", gpu.Multiprocessors);
            json.WriteNumber("l2_bytes", gpu.L2Bytes);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}

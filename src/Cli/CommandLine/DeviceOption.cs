using System.Globalization;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli;

/// <summary>What <c>--device</c> says.</summary>
internal static class DeviceOption
{
    public const string ValueName = "auto|cpu|cuda[:n]";

    /// <summary>
    /// The device, opened when it is first asked for if the program chooses it: commands that compute nothing open none. One
    /// that was asked for by name is opened at once.
    /// </summary>
    /// <param name="name">The option's value.</param>
    /// <param name="note">Told why a GPU that is there was not chosen.</param>
    /// <exception cref="UsageException">The name is none.</exception>
    /// <exception cref="EngineDataException">The device asked for cannot be used; the message says why and what to do.</exception>
    public static Lazy<Device> Parse(string name, Action<string> note)
    {
        if (name == "auto")
        {
            return new Lazy<Device>(() => Choose(note));
        }

        Device device = name == "cpu" ? Device.Cpu : CudaDevice.Get(Ordinal(name));
        return new Lazy<Device>(device);
    }

    private static Device Choose(Action<string> note)
    {
        if (CudaContext.WhyUnavailable() is not null)
        {
            return Device.Cpu;
        }

        if (!CudaLibraries.TryLoad("cublasLt", out _, out string? failure))
        {
            note($"there is a GPU but the CPU is used: {failure}");
            return Device.Cpu;
        }

        try
        {
            return CudaDevice.Get(0);
        }
        catch (EngineDataException error)
        {
            note($"there is a GPU but the CPU is used: {error.Message}");
            return Device.Cpu;
        }
    }

    private static int Ordinal(string name)
    {
        const string Prefix = "cuda";
        ReadOnlySpan<char> rest = name.StartsWith(Prefix, StringComparison.Ordinal) ? name.AsSpan(Prefix.Length) : "?";
        int ordinal = 0;
        bool valid = rest.IsEmpty ||
            (rest[0] == ':' && int.TryParse(rest[1..], NumberStyles.None, CultureInfo.InvariantCulture, out ordinal));
        return valid ? ordinal : throw new UsageException($"--device is \"{name}\"; expected auto, cpu, cuda or cuda:n");
    }
}

using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Engine.Cli;

/// <summary>The machine, as far as the program's speed depends on it.</summary>
/// <param name="System">Operating system.</param>
/// <param name="Processor">The processor's name.</param>
/// <param name="Cores">Logical cores this process may use.</param>
/// <param name="Simd">Instruction set and width of a vector.</param>
/// <param name="MemoryBytes">Memory this process may use.</param>
internal sealed record MachineInfo(string System, string Processor, int Cores, string Simd, long MemoryBytes)
{
    public static MachineInfo Read() => new(
        RuntimeInformation.OSDescription,
        ProcessorName(),
        Environment.ProcessorCount,
        SimdName(),
        GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);

    private static string SimdName() =>
        Vector512.IsHardwareAccelerated ? "AVX-512, vectors of 512 bits"
        : Avx2.IsSupported && Fma.IsSupported ? "AVX2 with FMA, vectors of 256 bits"
        : Vector256.IsHardwareAccelerated ? "vectors of 256 bits"
        : Vector128.IsHardwareAccelerated ? "vectors of 128 bits"
        : "no vector instructions";

    private static string ProcessorName()
    {
        try
        {
            // Linux; elsewhere the file is missing.
            string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
            if (line is not null)
            {
                return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The name is a convenience.
        }

        return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER") ?? "(not named by the system)";
    }
}

/// <summary>A native library that the program can use.</summary>
/// <param name="Name">The names looked for.</param>
/// <param name="Found">Whether one of them loads.</param>
/// <param name="Purpose">What for.</param>
/// <param name="Remedy">How to get it.</param>
internal sealed record LibraryInfo(string Name, bool Found, string Purpose, string Remedy)
{
    public static LibraryInfo[] LookFor() =>
    [
        Look(
            OperatingSystem.IsWindows() ? ["nvcuda.dll"] : ["libcuda.so.1"],
            "CUDA driver, for the CUDA device of a later version",
            "install the NVIDIA driver (Debian: nvidia-driver)"),
        Look(
            OperatingSystem.IsWindows() ? ["cublasLt64_13.dll", "cublasLt64_12.dll"] : ["libcublasLt.so.13", "libcublasLt.so.12"],
            "matrix products on a GPU, for the CUDA device of a later version",
            "install CUDA's cuBLAS (NVIDIA's package libcublas-13-0, or pip's nvidia-cublas on LD_LIBRARY_PATH)"),
    ];

    private static LibraryInfo Look(string[] names, string purpose, string remedy) =>
        new(string.Join(" or ", names), names.Any(Loads), purpose, remedy);

    private static bool Loads(string name)
    {
        if (!NativeLibrary.TryLoad(name, out nint handle))
        {
            return false;
        }

        NativeLibrary.Free(handle);
        return true;
    }
}

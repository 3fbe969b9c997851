using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Engine.Tensors.Cuda;

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
            "cuda",
            OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1",
            "the NVIDIA driver: computing on a GPU",
            "install the NVIDIA driver, 525 or newer (Debian: nvidia-driver)"),
        Look(
            "cublasLt",
            OperatingSystem.IsWindows() ? "cublasLt64_13.dll or cublasLt64_12.dll" : "libcublasLt.so.13 or libcublasLt.so.12",
            "cuBLASLt: matrix products on a GPU",
            $"install CUDA's cuBLAS (NVIDIA's package libcublas-13-0, or pip's nvidia-cublas with {CudaLibraries.PathVariable} naming its folder)"),
    ];

    private static LibraryInfo Look(string library, string names, string purpose, string remedy) =>
        new(names, CudaLibraries.TryLoad(library, out _, out _), purpose, remedy);
}

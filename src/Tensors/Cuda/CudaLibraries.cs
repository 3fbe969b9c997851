using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Engine.Tensors.Cuda;

/// <summary>
/// Finds the native libraries: the driver (<c>cuda</c>) and cuBLASLt (<c>cublasLt</c>), under the names that their
/// installers give them. <c>ENGINE_CUDA_LIBRARY_PATH</c> names folders to search first (separated as in PATH).
/// </summary>
public static class CudaLibraries
{
    /// <summary>Environment variable: folders that are searched before the system's.</summary>
    public const string PathVariable = "ENGINE_CUDA_LIBRARY_PATH";

    private static readonly Lock s_lock = new();
    private static readonly Dictionary<string, nint> s_loaded = [];
    private static readonly Dictionary<string, string> s_failures = [];

    // Every binding asks TryLoad before its first call, so this runs before any import is resolved.
    static CudaLibraries() => NativeLibrary.SetDllImportResolver(typeof(CudaLibraries).Assembly, Resolve);

    /// <summary>For <see cref="NativeLibrary.SetDllImportResolver"/> of every assembly that binds one of the libraries.</summary>
    public static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path) =>
        CandidatesOf(name) is null ? 0 : TryLoad(name, out nint handle, out string? failure) ? handle : throw new DllNotFoundException(failure);

    /// <summary>Loads a library once.</summary>
    /// <param name="name"><c>cuda</c> or <c>cublasLt</c>.</param>
    /// <param name="handle">The handle.</param>
    /// <param name="failure">What was tried and what to install, when nothing could be loaded.</param>
    public static bool TryLoad(string name, out nint handle, [NotNullWhen(false)] out string? failure)
    {
        lock (s_lock)
        {
            failure = null;
            if (s_loaded.TryGetValue(name, out handle))
            {
                return true;
            }

            if (s_failures.TryGetValue(name, out failure))
            {
                return false;
            }

            string[] candidates = CandidatesOf(name) ?? throw new ArgumentException($"no library is called {name}", nameof(name));
            var tried = new List<string>();
            foreach (string candidate in Paths(candidates))
            {
                if (NativeLibrary.TryLoad(candidate, out handle))
                {
                    s_loaded.Add(name, handle);
                    return true;
                }

                tried.Add(candidate);
            }

            failure = $"{Title(name)} was not found; tried {string.Join(", ", tried)}. {Remedy(name)} " +
                $"{PathVariable} can name the folder it is in.";
            s_failures.Add(name, failure);
            return false;
        }
    }

    private static IEnumerable<string> Paths(string[] names)
    {
        string folders = Environment.GetEnvironmentVariable(PathVariable) ?? "";
        foreach (string folder in folders.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            foreach (string name in names)
            {
                yield return Path.Combine(folder, name);
            }
        }

        foreach (string name in names)
        {
            yield return name;
        }

        // Toolkits do not always register their folder with the loader.
        if (OperatingSystem.IsLinux() && !names[0].StartsWith("libcuda.", StringComparison.Ordinal))
        {
            foreach (string folder in (string[])["/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"])
            {
                foreach (string name in names)
                {
                    yield return Path.Combine(folder, name);
                }
            }
        }
    }

    private static string[]? CandidatesOf(string name) => (name, OperatingSystem.IsWindows()) switch
    {
        ("cuda", false) => ["libcuda.so.1"],
        ("cuda", true) => ["nvcuda.dll"],
        ("cublasLt", false) => ["libcublasLt.so.13", "libcublasLt.so.12"],
        ("cublasLt", true) => ["cublasLt64_13.dll", "cublasLt64_12.dll"],
        ("nvtx", false) => ["libnvtx3interop.so.1", "libnvtx3interop.so", "libnvToolsExt.so.1"],
        ("nvtx", true) => ["nvtx3interop.dll", "nvToolsExt64_1.dll"],
        _ => null,
    };

    private static string Title(string name) => name switch
    {
        "cuda" => "The NVIDIA driver's library",
        "nvtx" => "NVIDIA's tools extension (NVTX)",
        _ => "cuBLASLt",
    };

    private static string Remedy(string name) => name switch
    {
        "cuda" => "Install the NVIDIA driver (525 or newer); a container needs --gpus all.",
        "nvtx" => "It comes with the CUDA toolkit and is only needed for ranges in a profiler.",
        _ => "Install cuBLAS 12 or 13: the package libcublas of the CUDA toolkit, or nvidia-cublas of PyPI.",
    };
}

using System.Runtime.InteropServices;

namespace Engine.Bench.MatMul;

/// <summary>OpenBLAS, loaded when the machine has it: the yardstick of the CPU matrix product.</summary>
internal sealed unsafe class OpenBlas
{
    /// <summary>What to tell whoever lacks it.</summary>
    public const string HowToGet = "OpenBLAS was not found (libopenblas.so.0); on Debian and Ubuntu: apt-get install libopenblas0-pthread";

    private const int RowMajor = 101;
    private const int NoTranspose = 111;
    private const int Transpose = 112;

    private readonly delegate* unmanaged<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void> _sgemm;
    private readonly delegate* unmanaged<int, void> _setThreads;

    private OpenBlas(nint library, nint sgemm, nint setThreads)
    {
        _sgemm = (delegate* unmanaged<int, int, int, int, int, int, float, float*, int, float*, int, float, float*, int, void>)sgemm;
        _setThreads = (delegate* unmanaged<int, void>)setThreads;
        Core = Text(library, "openblas_get_corename");
        Config = Text(library, "openblas_get_config");
    }

    /// <summary>The kernels it chose, such as SkylakeX; the variable OPENBLAS_CORETYPE forces another choice.</summary>
    public string Core { get; }

    /// <summary>Version and build options.</summary>
    public string Config { get; }

    /// <summary>The library, or null when it cannot be loaded.</summary>
    public static OpenBlas? TryLoad()
    {
        foreach (string name in new[] { "libopenblas.so.0", "libopenblas.so", "libopenblas.dylib", "libopenblas.dll" })
        {
            if (NativeLibrary.TryLoad(name, out nint library)
                && NativeLibrary.TryGetExport(library, "cblas_sgemm", out nint sgemm)
                && NativeLibrary.TryGetExport(library, "openblas_set_num_threads", out nint setThreads))
            {
                return new OpenBlas(library, sgemm, setThreads);
            }
        }

        return null;
    }

    /// <summary>Threads that later calls use.</summary>
    public void SetThreads(int threads) => _setThreads(threads);

    /// <summary>C = op(A)·op(B), row-major, without gaps between rows.</summary>
    public void Multiply(MatMulShape s, float* a, float* b, float* c) => _sgemm(
        RowMajor, s.TransA ? Transpose : NoTranspose, s.TransB ? Transpose : NoTranspose, s.M, s.N, s.K, 1, a, s.Lda, b, s.Ldb, 0, c, s.N);

    private static string Text(nint library, string export) =>
        NativeLibrary.TryGetExport(library, export, out nint function)
            ? Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)function)())?.Trim() ?? "unknown"
            : "unknown";
}

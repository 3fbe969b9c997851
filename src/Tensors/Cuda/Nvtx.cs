using System.Runtime.InteropServices;

namespace Engine.Tensors.Cuda;

/// <summary>
/// Named ranges in NVIDIA's profilers. Active when a profiler has set <c>NVTX_INJECTION64_PATH</c> or <c>ENGINE_NVTX</c> is
/// <c>1</c>, and the toolkit's library is there; otherwise nothing is called.
/// </summary>
internal static unsafe class Nvtx
{
    private static readonly delegate* unmanaged<byte*, int> s_push;
    private static readonly delegate* unmanaged<int> s_pop;

    static Nvtx()
    {
        bool wanted = Environment.GetEnvironmentVariable("NVTX_INJECTION64_PATH") is { Length: > 0 } ||
            Environment.GetEnvironmentVariable("ENGINE_NVTX") is "1";
        if (wanted && CudaLibraries.TryLoad("nvtx", out nint library, out _) &&
            NativeLibrary.TryGetExport(library, "nvtxRangePushA", out nint push) &&
            NativeLibrary.TryGetExport(library, "nvtxRangePop", out nint pop))
        {
            s_push = (delegate* unmanaged<byte*, int>)push;
            s_pop = (delegate* unmanaged<int>)pop;
        }
    }

    public static bool IsActive => s_push is not null;

    public static void Push(string name)
    {
        if (s_push is not null)
        {
            byte* text = (byte*)Marshal.StringToCoTaskMemUTF8(name);
            _ = s_push(text);
            Marshal.FreeCoTaskMem((nint)text);
        }
    }

    public static void Pop()
    {
        if (s_pop is not null)
        {
            _ = s_pop();
        }
    }
}

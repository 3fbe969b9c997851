using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Tensors.Cuda.Interop;

namespace Engine.Tensors.Cuda;

/// <summary>A CUDA call failed. The message has the driver's name and text for the error and what was being done.</summary>
public sealed class CudaException : DeviceException
{
    /// <summary>Makes the exception.</summary>
    public CudaException(CUresult status, string message)
        : base(message) => Status = status;

    /// <summary>The driver's status.</summary>
    public CUresult Status { get; }

    /// <summary>Throws unless <paramref name="status"/> is success.</summary>
    /// <param name="status">What the call returned.</param>
    /// <param name="call">The call's text.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check(CUresult status, [CallerArgumentExpression(nameof(status))] string call = "")
    {
        if (status != CUresult.Success)
        {
            Throw(status, call);
        }
    }

    /// <summary>The driver's name and text, such as <c>CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)</c>.</summary>
    public static unsafe string Describe(CUresult status)
    {
        byte* name = null;
        byte* text = null;
        _ = CudaDriver.cuGetErrorName(status, &name);
        _ = CudaDriver.cuGetErrorString(status, &text);
        return name is null
            ? $"error {(int)status}"
            : $"{Marshal.PtrToStringUTF8((nint)name)} ({Marshal.PtrToStringUTF8((nint)text)})";
    }

    [DoesNotReturn]
    internal static void Throw(CUresult status, string call)
    {
        int parenthesis = call.IndexOf('(', StringComparison.Ordinal);
        string function = (parenthesis < 0 ? call : call[..parenthesis]).Split('.')[^1];
        throw new CudaException(
            status,
            $"{function} failed with {Describe(status)}{Hint(status)}");
    }

    /// <summary>For errors of kernels, which whatever call comes next reports: how to find the one to blame; else nothing.</summary>
    internal static string Hint(CUresult status) =>
        IsSticky(status) && Environment.GetEnvironmentVariable(CudaDevice.SynchronizeVariable) is not "1"
            ? $"; work queued earlier may be to blame: set {CudaDevice.SynchronizeVariable}=1 to find the kernel"
            : "";

    private static bool IsSticky(CUresult status) => (int)status is >= 700 and < 800;
}

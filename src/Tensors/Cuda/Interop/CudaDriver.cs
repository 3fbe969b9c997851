using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace Engine.Tensors.Cuda.Interop;

/// <summary>
/// The driver functions in use, as the driver declares them: no policy, no checks. Pointers to device memory are
/// <see cref="nint"/>. The library is found by <see cref="CudaLibraries"/>.
/// </summary>
internal static unsafe partial class CudaDriver
{
    public const string Library = "cuda";

    [LibraryImport(Library)]
    public static partial CUresult cuInit(uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuDriverGetVersion(int* version);

    [LibraryImport(Library)]
    public static partial CUresult cuGetErrorName(CUresult error, byte** text);

    [LibraryImport(Library)]
    public static partial CUresult cuGetErrorString(CUresult error, byte** text);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetCount(int* count);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGet(CUdevice* device, int ordinal);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetName(byte* name, int length, CUdevice device);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceGetAttribute(int* value, CUdeviceAttribute attribute, CUdevice device);

    [LibraryImport(Library)]
    public static partial CUresult cuDeviceTotalMem_v2(nuint* bytes, CUdevice device);

    [LibraryImport(Library)]
    public static partial CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device);

    [LibraryImport(Library)]
    public static partial CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);

    [LibraryImport(Library)]
    public static partial CUresult cuCtxSetCurrent(CUcontext context);

    [LibraryImport(Library)]
    public static partial CUresult cuCtxSynchronize();

    [LibraryImport(Library)]
    public static partial CUresult cuMemGetInfo_v2(nuint* free, nuint* total);

    [LibraryImport(Library)]
    public static partial CUresult cuMemAlloc_v2(nint* pointer, nuint bytes);

    [LibraryImport(Library)]
    public static partial CUresult cuMemFree_v2(nint pointer);

    [LibraryImport(Library)]
    public static partial CUresult cuMemHostAlloc(void** pointer, nuint bytes, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuMemFreeHost(void* pointer);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyHtoDAsync_v2(nint destination, void* source, nuint bytes, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyDtoHAsync_v2(void* destination, nint source, nuint bytes, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemcpyDtoDAsync_v2(nint destination, nint source, nuint bytes, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemsetD8Async(nint destination, byte value, nuint count, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuMemsetD32Async(nint destination, uint value, nuint count, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamCreate(CUstream* stream, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamDestroy_v2(CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamSynchronize(CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamWaitEvent(CUstream stream, CUevent @event, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamBeginCapture_v2(CUstream stream, int mode);

    [LibraryImport(Library)]
    public static partial CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph);

    [LibraryImport(Library)]
    public static partial CUresult cuEventCreate(CUevent* @event, uint flags);

    [LibraryImport(Library)]
    public static partial CUresult cuEventDestroy_v2(CUevent @event);

    [LibraryImport(Library)]
    public static partial CUresult cuEventRecord(CUevent @event, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuEventSynchronize(CUevent @event);

    [LibraryImport(Library)]
    public static partial CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleLoadDataEx(CUmodule* module, void* image, uint count, int* options, void** values);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleUnload(CUmodule module);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, byte* name);

    [LibraryImport(Library)]
    public static partial CUresult cuModuleGetGlobal_v2(nint* pointer, nuint* bytes, CUmodule module, byte* name);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncGetAttribute(int* value, CUfunctionAttribute attribute, CUfunction function);

    [LibraryImport(Library)]
    public static partial CUresult cuFuncSetAttribute(CUfunction function, CUfunctionAttribute attribute, int value);

    [LibraryImport(Library)]
    public static partial CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int blockSize, nuint dynamicSharedBytes);

    [LibraryImport(Library)]
    public static partial CUresult cuLaunchKernel(
        CUfunction function, uint gridX, uint gridY, uint gridZ, uint blockX, uint blockY, uint blockZ, uint sharedBytes,
        CUstream stream, void** parameters, void** extra);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, ulong flags);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphExecDestroy(CUgraphExec exec);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphDestroy(CUgraph graph);

    [LibraryImport(Library)]
    public static partial CUresult cuGraphGetNodes(CUgraph graph, nint* nodes, nuint* count);

    [LibraryImport(Library)]
    public static partial CUresult cuProfilerStart();

    [LibraryImport(Library)]
    public static partial CUresult cuProfilerStop();
}

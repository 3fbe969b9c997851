namespace Engine.Tensors.Cuda.Interop;

/// <summary>A device's ordinal handle (<c>CUdevice</c>).</summary>
public readonly record struct CUdevice(int Value);

/// <summary>A context (<c>CUcontext</c>).</summary>
public readonly record struct CUcontext(nint Value);

/// <summary>A stream (<c>CUstream</c>); the default value is the legacy default stream.</summary>
public readonly record struct CUstream(nint Value);

/// <summary>An event (<c>CUevent</c>).</summary>
public readonly record struct CUevent(nint Value);

/// <summary>A loaded kernel image (<c>CUmodule</c>).</summary>
public readonly record struct CUmodule(nint Value);

/// <summary>A kernel in a module (<c>CUfunction</c>).</summary>
public readonly record struct CUfunction(nint Value);

/// <summary>A captured graph (<c>CUgraph</c>).</summary>
public readonly record struct CUgraph(nint Value);

/// <summary>A graph ready to launch (<c>CUgraphExec</c>).</summary>
public readonly record struct CUgraphExec(nint Value);

/// <summary>A driver call's status (<c>CUresult</c>); <see cref="CudaException"/> carries the driver's own name and text.</summary>
public enum CUresult
{
    /// <summary>CUDA_SUCCESS</summary>
    Success = 0,

    /// <summary>CUDA_ERROR_OUT_OF_MEMORY</summary>
    OutOfMemory = 2,

    /// <summary>CUDA_ERROR_STUB_LIBRARY: the toolkit's stub was loaded instead of the driver.</summary>
    StubLibrary = 34,

    /// <summary>CUDA_ERROR_NO_DEVICE</summary>
    NoDevice = 100,

    /// <summary>CUDA_ERROR_INVALID_PTX</summary>
    InvalidPtx = 218,

    /// <summary>CUDA_ERROR_UNSUPPORTED_PTX_VERSION</summary>
    UnsupportedPtxVersion = 222,

    /// <summary>CUDA_ERROR_NOT_FOUND</summary>
    NotFound = 500,

    /// <summary>CUDA_ERROR_NOT_READY</summary>
    NotReady = 600,

    /// <summary>CUDA_ERROR_SYSTEM_DRIVER_MISMATCH</summary>
    SystemDriverMismatch = 803,
}

/// <summary>The device attributes read here (<c>CUdevice_attribute</c>).</summary>
public enum CUdeviceAttribute
{
    /// <summary>Largest dynamic shared memory a block gets without opting in.</summary>
    MaxSharedMemoryPerBlock = 8,

    /// <summary>Core clock in kHz.</summary>
    ClockRate = 13,

    /// <summary>Multiprocessors.</summary>
    MultiprocessorCount = 16,

    /// <summary>Memory clock in kHz.</summary>
    MemoryClockRate = 36,

    /// <summary>Width of the memory bus in bits.</summary>
    MemoryBusWidth = 37,

    /// <summary>L2 cache in bytes.</summary>
    L2CacheSize = 38,

    /// <summary>Most threads that a multiprocessor holds at once.</summary>
    MaxThreadsPerMultiprocessor = 39,

    /// <summary>Compute capability, major.</summary>
    ComputeCapabilityMajor = 75,

    /// <summary>Compute capability, minor.</summary>
    ComputeCapabilityMinor = 76,

    /// <summary>Shared memory of a multiprocessor.</summary>
    MaxSharedMemoryPerMultiprocessor = 81,

    /// <summary>Largest dynamic shared memory a block gets after opting in.</summary>
    MaxSharedMemoryPerBlockOptin = 97,
}

/// <summary>The function attributes read and set here (<c>CUfunction_attribute</c>).</summary>
public enum CUfunctionAttribute
{
    /// <summary>Largest block the kernel can be launched with.</summary>
    MaxThreadsPerBlock = 0,

    /// <summary>Static shared memory in bytes.</summary>
    SharedSizeBytes = 1,

    /// <summary>Local memory of a thread in bytes: register spills and stack.</summary>
    LocalSizeBytes = 3,

    /// <summary>Registers of a thread.</summary>
    NumRegs = 4,

    /// <summary>PTX version the image was compiled from.</summary>
    PtxVersion = 5,

    /// <summary>Architecture the image was compiled for.</summary>
    BinaryVersion = 6,

    /// <summary>Limit of dynamic shared memory.</summary>
    MaxDynamicSharedSizeBytes = 8,
}

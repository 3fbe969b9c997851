using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>The extents of a launch.</summary>
/// <param name="GridX">Blocks along x.</param>
/// <param name="GridY">Blocks along y.</param>
/// <param name="GridZ">Blocks along z.</param>
/// <param name="Threads">Threads of a block.</param>
/// <param name="SharedBytes">Dynamic shared memory of a block.</param>
public readonly record struct LaunchShape(uint GridX, uint GridY, uint GridZ, uint Threads, uint SharedBytes = 0)
{
    /// <summary>A grid of one dimension.</summary>
    public static LaunchShape Blocks(long blocks, uint threads, uint sharedBytes = 0) =>
        new(checked((uint)blocks), 1, 1, threads, sharedBytes);
}

/// <summary>A kernel: takes one parameter struct by value.</summary>
public sealed unsafe class CudaKernel
{
    // Blocks get this much dynamic shared memory without asking.
    private const int DefaultSharedBytes = 48 * 1024;

    private readonly CUfunction _function;
    private int _sharedLimit = DefaultSharedBytes;

    internal CudaKernel(CUfunction function, string name)
    {
        _function = function;
        Name = name;
    }

    /// <summary>The entry point.</summary>
    public string Name { get; }

    /// <summary>Registers of a thread.</summary>
    public int Registers => Attribute(CUfunctionAttribute.NumRegs);

    /// <summary>Static shared memory of a block in bytes.</summary>
    public int StaticSharedBytes => Attribute(CUfunctionAttribute.SharedSizeBytes);

    /// <summary>Local memory of a thread in bytes: spilled registers and stack; 0 in a kernel that is as it should be.</summary>
    public int LocalBytes => Attribute(CUfunctionAttribute.LocalSizeBytes);

    /// <summary>Largest block.</summary>
    public int MaxThreads => Attribute(CUfunctionAttribute.MaxThreadsPerBlock);

    /// <summary>Architecture of the loaded code, such as 90.</summary>
    public int Architecture => Attribute(CUfunctionAttribute.BinaryVersion);

    /// <summary>Blocks of a multiprocessor at once.</summary>
    public int BlocksPerMultiprocessor(int threads, int sharedBytes = 0)
    {
        AllowShared(sharedBytes);
        int blocks;
        Check(CudaDriver.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, _function, threads, (nuint)sharedBytes));
        return blocks;
    }

    /// <summary>Queues the kernel. An empty grid queues nothing.</summary>
    /// <param name="device">Whose stream to use.</param>
    /// <param name="shape">The grid and the block.</param>
    /// <param name="parameters">The kernel's parameter struct.</param>
    /// <param name="work">Bytes and operations, for profiles.</param>
    /// <exception cref="CudaException">The launch was refused, or, when launches are synchronised, failed.</exception>
    public void Launch<T>(CudaDevice device, in LaunchShape shape, in T parameters, KernelWork work = default)
        where T : unmanaged
    {
        if (shape.GridX == 0 || shape.GridY == 0 || shape.GridZ == 0)
        {
            return;
        }

        device.Context.MakeCurrent();
        AllowShared((int)shape.SharedBytes);
        device.Profiler?.Before(Name, work);
        CUresult status;
        fixed (T* first = &parameters)
        {
            void* pointer = first;
            status = CudaDriver.cuLaunchKernel(
                _function, shape.GridX, shape.GridY, shape.GridZ, shape.Threads, 1, 1, shape.SharedBytes, device.Stream.Handle, &pointer, null);
        }

        if (status == CUresult.Success)
        {
            device.Profiler?.After();
            if (!device.SynchronizesLaunches || device.Stream.IsCapturing)
            {
                return;
            }

            status = CudaDriver.cuStreamSynchronize(device.Stream.Handle);
            if (status == CUresult.Success)
            {
                return;
            }
        }

        Throw(status, shape, parameters);
    }

    private int Attribute(CUfunctionAttribute attribute)
    {
        int value;
        Check(CudaDriver.cuFuncGetAttribute(&value, attribute, _function));
        return value;
    }

    private void AllowShared(int bytes)
    {
        if (bytes > _sharedLimit)
        {
            Check(CudaDriver.cuFuncSetAttribute(_function, CUfunctionAttribute.MaxDynamicSharedSizeBytes, bytes));
            _sharedLimit = bytes;
        }
    }

    [DoesNotReturn]
    private void Throw<T>(CUresult status, in LaunchShape shape, in T parameters)
        where T : unmanaged
    {
        fixed (T* first = &parameters)
        {
            string words = string.Join(' ', new ReadOnlySpan<byte>(first, sizeof(T)).ToArray().Chunk(8).Select(Convert.ToHexString));
            throw new CudaException(
                status,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"kernel {Name} failed with {Describe(status)}; grid {shape.GridX}×{shape.GridY}×{shape.GridZ}, block {shape.Threads}, shared {shape.SharedBytes} bytes, {typeof(T).Name}: {words}{Hint(status)}"));
        }
    }
}

/// <summary>What one launch must at least do, for profiles and rooflines.</summary>
/// <param name="Bytes">Bytes read and written once.</param>
/// <param name="Flops">Floating-point operations.</param>
public readonly record struct KernelWork(long Bytes, long Flops = 0);

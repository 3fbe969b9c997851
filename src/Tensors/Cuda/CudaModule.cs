using System.Text;
using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>A kernel image loaded into a context: a cubin, or PTX that the driver compiles.</summary>
public sealed unsafe class CudaModule : IDisposable
{
    private const int ErrorLogBuffer = 5;
    private const int ErrorLogBytes = 6;
    private const int LogLength = 8192;

    private CUmodule _module;

    /// <summary>Loads an image into the current context.</summary>
    /// <param name="image">The image; PTX ends with a zero byte.</param>
    /// <param name="name">Its name, for messages.</param>
    /// <exception cref="CudaException">The driver refuses it; the message has the compiler's log.</exception>
    public CudaModule(ReadOnlySpan<byte> image, string name)
    {
        Name = name;
        byte[] log = new byte[LogLength];
        CUmodule module;
        fixed (byte* data = image, text = log)
        {
            int* options = stackalloc int[] { ErrorLogBuffer, ErrorLogBytes };
            void** values = stackalloc void*[] { text, (void*)LogLength };
            CUresult status = CudaDriver.cuModuleLoadDataEx(&module, data, 2, options, values);
            if (status != CUresult.Success)
            {
                int length = Math.Max(0, log.AsSpan().IndexOf((byte)0));
                string remedy = status is CUresult.UnsupportedPtxVersion ? "; the driver is too old for this image: update it" : "";
                throw new CudaException(
                    status, $"the kernel image {name} was not loaded: {Describe(status)}{remedy}{(length == 0 ? "" : $"\n{Encoding.UTF8.GetString(log, 0, length)}")}");
            }
        }

        _module = module;
    }

    /// <summary>The image's name.</summary>
    public string Name { get; }

    /// <summary>A kernel by its entry point.</summary>
    /// <exception cref="CudaException">The image has no such entry point.</exception>
    public CudaKernel Kernel(string entry)
    {
        CUfunction function;
        fixed (byte* name = Encoding.UTF8.GetBytes(entry + '\0'))
        {
            CUresult status = CudaDriver.cuModuleGetFunction(&function, _module, name);
            if (status != CUresult.Success)
            {
                throw new CudaException(status, $"the kernel image {Name} has no entry point {entry}: {Describe(status)}");
            }
        }

        return new CudaKernel(function, entry);
    }

    /// <summary>A 32-bit constant that the image exports, or null.</summary>
    public uint? Constant(string name)
    {
        nint pointer;
        nuint bytes;
        fixed (byte* text = Encoding.UTF8.GetBytes(name + '\0'))
        {
            if (CudaDriver.cuModuleGetGlobal_v2(&pointer, &bytes, _module, text) != CUresult.Success || bytes != 4)
            {
                return null;
            }
        }

        uint value;
        Check(CudaDriver.cuMemcpyDtoHAsync_v2(&value, pointer, 4, default));
        Check(CudaDriver.cuStreamSynchronize(default));
        return value;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_module.Value != 0)
        {
            _ = CudaDriver.cuModuleUnload(_module);
            _module = default;
        }
    }
}

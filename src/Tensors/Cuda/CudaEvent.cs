using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>A point in a stream: to wait for, or, with timing, to measure between.</summary>
public sealed unsafe class CudaEvent : IDisposable
{
    private const uint NoTiming = 2;

    private CUevent _event;

    /// <summary>Makes an event; one without timing is cheaper. The context is current.</summary>
    public CudaEvent(bool timing = false)
    {
        CUevent handle;
        Check(CudaDriver.cuEventCreate(&handle, timing ? 0 : NoTiming));
        _event = handle;
    }

    /// <summary>The driver's handle.</summary>
    public CUevent Handle => _event;

    /// <summary>Marks the present end of the stream.</summary>
    public void Record(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Check(CudaDriver.cuEventRecord(_event, stream.Handle));
    }

    /// <summary>Waits until the device has reached the mark.</summary>
    public void Synchronize() => Check(CudaDriver.cuEventSynchronize(_event));

    /// <summary>Milliseconds from an earlier event to this one; both were recorded with timing and have been reached.</summary>
    public float MillisecondsSince(CudaEvent start)
    {
        ArgumentNullException.ThrowIfNull(start);
        float milliseconds;
        Check(CudaDriver.cuEventElapsedTime(&milliseconds, start._event, _event));
        return milliseconds;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_event.Value != 0)
        {
            _ = CudaDriver.cuEventDestroy_v2(_event);
            _event = default;
        }
    }
}

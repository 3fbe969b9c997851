using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>An ordered queue of device work.</summary>
public sealed unsafe class CudaStream : IDisposable
{
    private const uint NonBlocking = 1;
    private const int CaptureThreadLocal = 1;

    private CUstream _stream;

    /// <summary>Makes a stream that does not wait for the legacy default stream; the context is current.</summary>
    public CudaStream()
    {
        CUstream stream;
        Check(CudaDriver.cuStreamCreate(&stream, NonBlocking));
        _stream = stream;
    }

    /// <summary>The driver's handle.</summary>
    public CUstream Handle => _stream;

    /// <summary>True between <see cref="BeginCapture"/> and <see cref="EndCapture"/>.</summary>
    public bool IsCapturing { get; private set; }

    /// <summary>Waits for all work queued so far.</summary>
    public void Synchronize() => Check(CudaDriver.cuStreamSynchronize(_stream));

    /// <summary>Work queued from now on waits for the event.</summary>
    public void Wait(CudaEvent recorded)
    {
        ArgumentNullException.ThrowIfNull(recorded);
        Check(CudaDriver.cuStreamWaitEvent(_stream, recorded.Handle, 0));
    }

    /// <summary>From now on work is recorded into a graph instead of running. Calls of other threads are not affected.</summary>
    public void BeginCapture()
    {
        Check(CudaDriver.cuStreamBeginCapture_v2(_stream, CaptureThreadLocal));
        IsCapturing = true;
    }

    /// <summary>Ends the recording and makes it ready to launch.</summary>
    public CudaGraph EndCapture()
    {
        IsCapturing = false;
        CUgraph graph;
        Check(CudaDriver.cuStreamEndCapture(_stream, &graph));
        return new CudaGraph(graph);
    }

    /// <summary>Ends a recording that failed half-way and throws it away.</summary>
    public void AbandonCapture()
    {
        IsCapturing = false;
        CUgraph graph = default;
        _ = CudaDriver.cuStreamEndCapture(_stream, &graph);
        if (graph.Value != 0)
        {
            _ = CudaDriver.cuGraphDestroy(graph);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_stream.Value != 0)
        {
            _ = CudaDriver.cuStreamDestroy_v2(_stream);
            _stream = default;
        }
    }
}

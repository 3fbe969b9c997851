using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>Recorded work, launched as a whole: one call where there were hundreds of launches.</summary>
public sealed unsafe class CudaGraph : IDisposable
{
    private CUgraphExec _exec;

    internal CudaGraph(CUgraph graph)
    {
        try
        {
            nuint count = 0;
            Check(CudaDriver.cuGraphGetNodes(graph, null, &count));
            Nodes = (int)count;
            CUgraphExec exec;
            Check(CudaDriver.cuGraphInstantiateWithFlags(&exec, graph, 0));
            _exec = exec;
        }
        finally
        {
            _ = CudaDriver.cuGraphDestroy(graph);
        }
    }

    /// <summary>Kernels, copies and fills in it.</summary>
    public int Nodes { get; }

    /// <summary>Queues the work; the context is current.</summary>
    public void Launch(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Check(CudaDriver.cuGraphLaunch(_exec, stream.Handle));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_exec.Value != 0)
        {
            _ = CudaDriver.cuGraphExecDestroy(_exec);
            _exec = default;
        }
    }
}

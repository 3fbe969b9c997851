using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Adds partial sums [chunks, columns] f32 to a vector of any float dtype, in index order (<c>common/column_sums.cuh</c>).</summary>
internal sealed class ColumnSumsCuda(string op, string name)
{
    private readonly KernelFamily<Params> _family = new(op, name);

    public void AddTo(Tensor partials, int chunks, int columns, Tensor output) => _family.Launch(
        output.Device,
        LaunchShape.Blocks(CudaLaunch.CeilDiv(columns, 256), 256),
        new Params { Partial = partials.Pointer, Out = output.Pointer, Chunks = chunks, Columns = columns, OutType = KernelTypes.Code(name, output) },
        new KernelWork(partials.ByteLength + (2 * output.ByteLength), partials.Elements));

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Partial;
        public nint Out;
        public int Chunks;
        public int Columns;
        public int OutType;
    }
}

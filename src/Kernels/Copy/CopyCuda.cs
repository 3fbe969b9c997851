using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Strided copies on CUDA. Dimensions that follow each other without gaps in both tensors are joined; then the widest unit
/// of 1 to 16 bytes that divides the run of neighbours, all strides and both addresses is moved at a time.
/// </summary>
internal static class CopyCuda
{
    private static readonly KernelFamily<Params>[] s_copies =
    [
        new("copy", "copy_1"), new("copy", "copy_2"), new("copy", "copy_4"), new("copy", "copy_8"), new("copy", "copy_16"),
    ];

    public static void Run(Tensor x, Tensor y)
    {
        if (x.Elements == 0)
        {
            return;
        }

        if (x.IsContiguous && y.IsContiguous)
        {
            x.Device.Copy(x.Pointer, y.Pointer, x.ByteLength);
            return;
        }

        // In bytes, innermost first; the first one is the byte of an element itself.
        Span<long> extents = stackalloc long[Shape.MaxRank + 1];
        Span<long> from = stackalloc long[Shape.MaxRank + 1];
        Span<long> to = stackalloc long[Shape.MaxRank + 1];
        int size = x.DType.Size();
        int rank = 1;
        (extents[0], from[0], to[0]) = (size, 1, 1);
        for (int d = x.Shape.Rank - 1; d >= 0; d--)
        {
            long extent = x.Shape[d];
            long a = x.Strides[d] * size;
            long b = y.Strides[d] * size;
            if (extent == 1)
            {
                continue;
            }

            if (a == from[rank - 1] * extents[rank - 1] && b == to[rank - 1] * extents[rank - 1])
            {
                extents[rank - 1] *= extent;
            }
            else
            {
                (extents[rank], from[rank], to[rank]) = (extent, a, b);
                rank++;
            }
        }

        int log = UnitLog(x.Pointer, y.Pointer, extents[..rank], from[..rank], to[..rank]);
        extents[0] >>= log;
        var p = new Params { X = x.Pointer, Y = y.Pointer, Count = x.ByteLength >> log };
        int units = 0;
        for (int d = rank - 1; d >= 0; d--)
        {
            // The innermost dimension is dropped where it is one unit.
            if (d == 0 && extents[0] == 1 && rank > 1)
            {
                break;
            }

            (p.Extents[units], p.XStrides[units], p.YStrides[units]) = d == 0 ? (extents[0], 1, 1) : (extents[d], from[d] >> log, to[d] >> log);
            units++;
        }

        p.Rank = units;
        s_copies[log].Launch(
            x.Device, LaunchShape.Blocks(Math.Min(CudaLaunch.CeilDiv(p.Count, 256), 132 * 32), 256), in p, new KernelWork(2 * x.ByteLength));
    }

    private static int UnitLog(nint x, nint y, ReadOnlySpan<long> extents, ReadOnlySpan<long> from, ReadOnlySpan<long> to)
    {
        long all = x | y | extents[0];
        for (int d = 1; d < extents.Length; d++)
        {
            all |= from[d] | to[d];
        }

        return Math.Min(4, System.Numerics.BitOperations.TrailingZeroCount(all));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint X;
        public nint Y;
        public long Count;
        public int Rank;
        public int Pad;
        public Dimensions Extents;
        public Dimensions XStrides;
        public Dimensions YStrides;
    }

    [InlineArray(Shape.MaxRank)]
    private struct Dimensions
    {
        private long _first;
    }
}

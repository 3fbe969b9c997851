using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <content>The kernels that compute with Hopper's warpgroup products; images of other architectures do not have them.</content>
internal static partial class AttentionCuda
{
    // As in kernels-cu/attention/tuning.cuh.
    private const int WgmmaRows = 64;

    // A kernel's dimension takes head dimensions above the first number: those below waste too much of it.
    private static readonly (int Above, int Dimension)[] s_wgmmaDimensions = [(32, 64), (96, 128)];

    private static readonly KernelFamily<ForwardParams>[] s_wgmmaForward = WgmmaFamilies<ForwardParams>("attention_fwd_wgmma_d");
    private static readonly KernelFamily<BackwardParams>[] s_wgmmaBackwardKeys = WgmmaFamilies<BackwardParams>("attention_bwd_kv_wgmma_d");
    private static readonly KernelFamily<BackwardParams>[] s_wgmmaBackwardQueries = WgmmaFamilies<BackwardParams>("attention_bwd_q_wgmma_d");

    private static bool TryForwardByWarpgroups(Tensor q, Tensor k, in ForwardParams parameters)
    {
        int index = WgmmaIndex(q, parameters.Shape);
        if (index < 0)
        {
            return false;
        }

        int dimension = s_wgmmaDimensions[index].Dimension;
        s_wgmmaForward[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                CudaLaunch.CeilDiv(q.Shape[1], WgmmaRows) * q.Shape[0] * q.Shape[2],
                2 * WgmmaRows,
                WgmmaBytes(WgmmaForwardTiles(dimension) * WgmmaRows, dimension)),
            parameters,
            WorkOf(q, k, backward: false, products: 2));
        return true;
    }

    private static bool TryBackwardByWarpgroups(Tensor q, Tensor k, BackwardParams parameters, Rotation? rotation, out bool turned)
    {
        int index = WgmmaIndex(q, parameters.Shape);

        // Both halves of a head are whole pieces of 16 bytes.
        turned = index >= 0 && q.Shape[3] % 16 == 0;
        if (index < 0)
        {
            return false;
        }

        if (turned && rotation is { } angles)
        {
            (parameters.Cos, parameters.Sin, parameters.Positions) = (angles.Cos.Pointer, angles.Sin.Pointer, angles.Positions.Pointer);
        }

        // The pass over the queries leaves delta for the one over the keys.
        int dimension = s_wgmmaDimensions[index].Dimension;
        (int batch, int queries) = (q.Shape[0], q.Shape[1]);
        s_wgmmaBackwardQueries[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                CudaLaunch.CeilDiv(queries, WgmmaRows) * batch * q.Shape[2], 2 * WgmmaRows, WgmmaBytes(6 * WgmmaRows, dimension)),
            parameters,
            WorkOf(q, k, backward: true, products: 3));

        // Behind the tiles three numbers for each query of a stage, and one for each warp.
        int stages = WgmmaStages(dimension);
        uint numbers = sizeof(float) * (uint)((stages * 3 * WgmmaRows) + (2 * WgmmaRows / 32));
        s_wgmmaBackwardKeys[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                CudaLaunch.CeilDiv(queries, WgmmaRows) * batch * k.Shape[2],
                2 * WgmmaRows,
                WgmmaBytes((2 + (2 * stages)) * WgmmaRows, dimension) + numbers),
            parameters,
            WorkOf(q, k, backward: true, products: 4));
        return true;
    }

    // The kernels to take, or −1. They read and write 16 bytes at a time.
    private static int WgmmaIndex(Tensor q, in AttentionShape shape)
    {
        int index = Array.FindIndex(s_wgmmaDimensions, d => q.Shape[3] > d.Above && q.Shape[3] <= d.Dimension);
        return index >= 0 && q.DType is DType.BF16 or DType.F16 && shape.Vectors && s_wgmmaForward[index].IsIn(q.Device) ? index : -1;
    }

    // Tiles of the forward: q, two of k, and of v two or, as OneV in kernels-cu/attention/wgmma_fwd.cuh has it, one.
    private static int WgmmaForwardTiles(int dimension) => dimension <= 64 ? 5 : 4;

    // As in kernels-cu/attention/tuning.cuh.
    private static int WgmmaStages(int dimension) => dimension <= 64 ? 3 : 2;

    // Rows of 16-bit elements without gaps.
    private static uint WgmmaBytes(int rows, int dimension) => (uint)(2 * rows * dimension);

    private static KernelFamily<T>[] WgmmaFamilies<T>(string name)
        where T : unmanaged => [.. s_wgmmaDimensions.Select(d => new KernelFamily<T>(Image, name + d.Dimension))];
}

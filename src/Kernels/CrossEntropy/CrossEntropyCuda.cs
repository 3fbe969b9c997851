using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class CrossEntropyCuda
{
    // kGroup and Long::Stages in crossentropy.cu.
    private const int GroupPacks = 4;
    private const int LongStages = 7;

    // Rows up to this size stay in shared memory two to a multiprocessor; one of longer rows needs twice the threads.
    private const long HalfBytes = 112 << 10;

    // What half the threads keep in shared memory of a row at most. Of longer rows they keep more in registers, of which each
    // has twice as many. By the row alone, on every GPU: the threads are the order of a row's sum.
    private const long WholeBytes = LongStages * GroupPacks * 512 * 16;

    // What the kernel has in shared memory beside a row.
    private const int StaticShared = 1024;

    // ClusterThreads in cluster.cuh. Parts are multiples of a line of 128 bytes, 8 packs: whole lines where the row begins at one.
    private const int ClusterThreads = 256;
    private const int LinePacks = 8;

    // Shorter rows are many to a multiprocessor without clusters.
    private const long LeastClusterBytes = 48 << 10;

    // What one block of a cluster keeps of a row at most, so that a multiprocessor's 228 KB have room for four, for three, and for
    // one at least; each takes 1 KB for the system and up to 512 bytes more. By the row alone: the cluster is the order of its sum.
    private static readonly (int Blocks, long PartBytes, KernelFamily<ForwardParams> Kernel)[] s_clusters =
    [
        (2, 55 << 10, new("crossentropy", "crossentropy_cluster2")),
        (4, (76 << 10) - 1536, new("crossentropy", "crossentropy_cluster4")),
        (8, 226 << 10, new("crossentropy", "crossentropy_cluster8")),
    ];

    private static readonly KernelFamily<ForwardParams> s_forward = new("crossentropy", "crossentropy_fwd");
    private static readonly KernelFamily<ForwardParams> s_long = new("crossentropy", "crossentropy_long");

    public static void Forward(
        Device device, RowMatrix logits, Tensor labels, Tensor losses, RowMatrix dLogits, float scale, Tensor? gradScale)
    {
        int size = logits.DType.Size();
        long packs = (long)logits.Columns * size / 16;
        long bytes = (long)logits.Columns * (size + (dLogits.Exists ? dLogits.DType.Size() : 0));
        if (!TryCluster(device, logits.Rows, packs, out KernelFamily<ForwardParams> kernel, out LaunchShape shape, out int kept))
        {
            uint threads = CudaLaunch.ThreadsFor(packs + 1, packs * 16 is > HalfBytes and <= WholeBytes ? 1024u : 512u);
            kept = dLogits.Exists ? (int)KeptPacks(device, packs, threads) : 0;
            kernel = dLogits.Exists && packs * 16 > WholeBytes ? s_long : s_forward;
            shape = LaunchShape.Blocks(logits.Rows, threads, (uint)kept * 16);
        }

        kernel.Launch(
            device,
            logits.DType,
            shape,
            new ForwardParams
            {
                X = logits.Address,
                Labels = labels.Pointer,
                Losses = losses.Pointer,
                Gradient = dLogits.Address,
                GradScale = CudaLaunch.PointerOf(gradScale),
                Stride = logits.Stride,
                GradientStride = dLogits.Stride,
                Columns = logits.Columns,
                GradientType = dLogits.Exists ? KernelTypes.Code("crossentropy", device, dLogits.DType) : 0,
                Scale = scale,
                Kept = kept,
            },
            new KernelWork(logits.Rows * (bytes + 8), (long)logits.Rows * logits.Columns * (dLogits.Exists ? 7 : 4)));
    }

    // A cluster of blocks for each row, of the smallest number whose parts have room, where the image has such kernels: those for
    // 9.0 do. With and without a gradient, so that losses have the same bits.
    private static bool TryCluster(
        Device device, long rows, long packs, out KernelFamily<ForwardParams> kernel, out LaunchShape shape, out int kept)
    {
        foreach ((int blocks, long partBytes, KernelFamily<ForwardParams> family) in s_clusters)
        {
            kept = (int)CudaLaunch.CeilDiv(packs, (long)blocks * LinePacks) * LinePacks;
            if (kept * 16L <= partBytes && packs * 16 > LeastClusterBytes && family.IsIn(device))
            {
                kernel = family;
                shape = LaunchShape.Blocks(rows * blocks, ClusterThreads, (uint)kept * 16);
                return true;
            }
        }

        (kernel, shape, kept) = (s_forward, default, 0);
        return false;
    }

    // How much of a row stays in shared memory: all packs, or as many of the block's groups as have room. It changes no bits.
    private static long KeptPacks(Device device, long packs, uint threads)
    {
        long room = Math.Min(((CudaDevice)device).Context.SharedBytesPerBlock - StaticShared, WholeBytes) / 16;
        long group = GroupPacks * threads;
        return packs <= room ? packs : room / group * group;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint X;
        public nint Labels;
        public nint Losses;
        public nint Gradient;
        public nint GradScale;
        public long Stride;
        public long GradientStride;
        public int Columns;
        public int GradientType;
        public float Scale;
        public int Kept;
    }
}

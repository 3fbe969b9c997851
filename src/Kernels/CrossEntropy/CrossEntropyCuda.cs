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

    private static readonly KernelFamily<ForwardParams> s_forward = new("crossentropy", "crossentropy_fwd");
    private static readonly KernelFamily<ForwardParams> s_long = new("crossentropy", "crossentropy_long");

    public static void Forward(
        Device device, RowMatrix logits, Tensor labels, Tensor losses, RowMatrix dLogits, float scale, Tensor? gradScale)
    {
        int size = logits.DType.Size();
        long packs = (long)logits.Columns * size / 16;
        uint threads = CudaLaunch.ThreadsFor(packs + 1, packs * 16 is > HalfBytes and <= WholeBytes ? 1024u : 512u);
        int kept = dLogits.Exists ? (int)KeptPacks(device, packs, threads) : 0;
        long bytes = (long)logits.Columns * (size + (dLogits.Exists ? dLogits.DType.Size() : 0));
        KernelFamily<ForwardParams> kernel = dLogits.Exists && packs * 16 > WholeBytes ? s_long : s_forward;
        kernel.Launch(
            device,
            logits.DType,
            LaunchShape.Blocks(logits.Rows, threads, (uint)kept * 16),
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

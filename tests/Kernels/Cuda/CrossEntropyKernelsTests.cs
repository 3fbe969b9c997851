using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>
/// Which kernels cross-entropy takes on a GPU, and that many rows at once do not disturb each other; that they are right is shown
/// in <see cref="CrossEntropyTests"/>.
/// </summary>
[Collection(nameof(CudaCollection))]
public sealed class CrossEntropyKernelsTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    /// <summary>A row is shared by as many blocks as it takes, where the image has such kernels; else one block has it.</summary>
    [Theory]
    [InlineData(DType.BF16, 4096, null, "fwd")]
    [InlineData(DType.BF16, 50257, 2, "fwd")]
    [InlineData(DType.F16, 128256, 4, "long")]
    [InlineData(DType.F32, 50257, 4, "fwd")]
    [InlineData(DType.F32, 128256, 8, "long")]
    [InlineData(DType.F32, 470011, null, "long")]
    public void Long_rows_take_clusters_where_there_are_any(DType dtype, int vocabulary, int? blocks, string otherwise)
    {
        bool has = KernelImages.Choose("crossentropy", _device.Context.ComputeCapability).Contains(".sm_90.", StringComparison.Ordinal);
        string kernel = has && blocks is { } b ? $"cluster{b}" : otherwise;
        using Tensor logits = Tensor.Zeros([3, vocabulary], dtype, _device);
        using Tensor labels = Tensor.Zeros([3], DType.I32, _device);
        using Tensor losses = Tensor.Zeros([3], DType.F32, _device);
        using var profiler = new CudaProfiler(_device);
        CrossEntropy.Forward(logits, labels, losses, logits, 1);
        Assert.Equal([$"crossentropy_{kernel}_{dtype.Name()}"], profiler.Collect().Select(static s => s.Kernel));
    }

    /// <summary>
    /// More rows than the GPU has at once, of few contents, all aligned alike: equal ones have equal bits, in place and again.
    /// </summary>
    [Theory]
    [InlineData(DType.BF16, 50257, 50304)]
    [InlineData(DType.F16, 128256, 128256)]
    [InlineData(DType.F32, 50241, 50272)]
    [InlineData(DType.F32, 128256, 128256)]
    public void Equal_rows_have_equal_bits_among_many(DType dtype, int vocabulary, int stride)
    {
        const int Rows = 293, Contents = 5, Repeats = 3;
        int bytes = stride * dtype.Size();
        byte[] contents = Bytes(new RandomTensors(6).Values((long)Contents * stride, 4), dtype);
        int[] ids = [7, CrossEntropy.IgnoredLabel, vocabulary - 1, vocabulary / 2, vocabulary];
        byte[] block = new byte[Rows * bytes];
        int[] labels = new int[Rows];
        for (int r = 0; r < Rows; r++)
        {
            contents.AsSpan(r % Contents * bytes, bytes).CopyTo(block.AsSpan(r * bytes));
            labels[r] = ids[r % Contents];
        }

        using Tensor all = Tensor.Empty([Rows, stride], dtype, _device);
        using Tensor logits = all.Slice(1, 0, vocabulary);
        using Tensor deviceLabels = Tensor.From(labels, [Rows], _device);
        using Tensor losses = Tensor.Empty([Rows], DType.F32, _device);
        byte[] result = new byte[block.Length];
        byte[]? first = null;
        for (int repeat = 0; repeat < Repeats; repeat++)
        {
            _device.CopyFromHost(block, all.Pointer);
            CrossEntropy.Forward(logits, deviceLabels, losses, logits, 0.37f);
            _device.CopyToHost(all.Pointer, result);
            float[] rowLosses = losses.ToArray<float>();
            first ??= result[..(Contents * bytes)];
            for (int r = 0; r < Rows; r++)
            {
                Assert.Equal(BitConverter.SingleToUInt32Bits(rowLosses[r % Contents]), BitConverter.SingleToUInt32Bits(rowLosses[r]));
                Assert.True(
                    result.AsSpan(r * bytes, bytes).SequenceEqual(first.AsSpan(r % Contents * bytes, bytes)), $"row {r}, repeat {repeat}");
            }

            Assert.Equal(0, rowLosses[1]);
            Assert.True(float.IsNaN(rowLosses[4]));
            Assert.All(rowLosses[2..4], static loss => Assert.True(float.IsFinite(loss) && loss > 0));
        }

        // What lies between rows is as it was.
        int gap = vocabulary * dtype.Size();
        for (int c = 0; c < Contents; c++)
        {
            Assert.Equal(contents[((c * bytes) + gap)..((c + 1) * bytes)], first![((c * bytes) + gap)..((c + 1) * bytes)]);
        }
    }

    private static byte[] Bytes(double[] values, DType dtype) => dtype switch
    {
        DType.F32 => MemoryMarshal.AsBytes(Array.ConvertAll(values, static x => (float)x).AsSpan()).ToArray(),
        DType.BF16 => MemoryMarshal.AsBytes(Array.ConvertAll(values, static x => (BFloat16)(float)x).AsSpan()).ToArray(),
        DType.F16 => MemoryMarshal.AsBytes(Array.ConvertAll(values, static x => (Half)x).AsSpan()).ToArray(),
        _ => throw new ArgumentException(dtype.Name()),
    };
}

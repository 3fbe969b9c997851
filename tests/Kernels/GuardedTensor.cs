using System.Runtime.InteropServices;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>
/// A tensor on the test's device inside a larger block: sentinels before and after it show any write outside, every element
/// starts as poison (all bits set: NaN, −1) so that an element left out is seen, and the first element is not aligned to a
/// vector. Rows may have a gap between them, which is guarded too.
/// </summary>
/// <remarks>
/// With <c>ENGINE_TEST_ALIGNED=1</c> the first element is aligned, so that kernels with a path for aligned rows take it.
/// </remarks>
internal sealed class GuardedTensor : IDisposable
{
    private const byte Sentinel = 0xA5;
    private const int GuardBytes = 256;

    private readonly int _before;
    private readonly long _rowGap;

    private GuardedTensor(Shape shape, DType dtype, int rowGap, ReadOnlySpan<byte> elements)
    {
        // One element past a 64-byte boundary: aligned to its own size only.
        _before = GuardBytes + (IsAligned ? 0 : dtype.Size());
        _rowGap = rowGap;
        int rank = shape.Rank;
        var strides = new long[rank];
        long next = 1;
        for (int i = rank - 1; i >= 0; i--)
        {
            strides[i] = next;
            next *= shape[i];
            if (i == rank - 1 && rank > 1)
            {
                next += rowGap;
            }
        }

        long span = rank == 0 ? 1 : next;
        Device device = TestDevice.Current;
        Storage storage = device.Allocate(_before + (span * dtype.Size()) + GuardBytes);
        Tensor = new Tensor(storage, dtype, shape, new Strides(strides), _before / dtype.Size());
        int size = dtype.Size();
        var block = new byte[storage.ByteLength];
        block.AsSpan().Fill(Sentinel);
        foreach ((int at, int i) in Places())
        {
            elements.Slice(i * size, size).CopyTo(block.AsSpan(at));
        }

        device.CopyFromHost(block, storage.Pointer);
    }

    /// <summary>Whether first elements are aligned to vectors in this run.</summary>
    public static bool IsAligned { get; } = Environment.GetEnvironmentVariable("ENGINE_TEST_ALIGNED") is "1";

    public Tensor Tensor { get; }

    public static implicit operator Tensor(GuardedTensor guarded) => guarded.Tensor;

    /// <summary>An output: every element is poison. <paramref name="rowGap"/> elements lie between rows.</summary>
    public static GuardedTensor Empty(Shape shape, DType dtype, int rowGap = 0)
    {
        var poison = new byte[shape.Elements * dtype.Size()];
        poison.AsSpan().Fill(0xFF);
        return new GuardedTensor(shape, dtype, rowGap, poison);
    }

    /// <summary>A float tensor of these values, rounded to its dtype.</summary>
    public static GuardedTensor From(ReadOnlySpan<double> values, Shape shape, DType dtype, int rowGap = 0)
    {
        double[] copy = values.ToArray();
        return dtype switch
        {
            DType.F32 => From(Array.ConvertAll(copy, x => (float)x)),
            DType.F64 => From(copy),
            DType.BF16 => From(Array.ConvertAll(copy, x => (BFloat16)(float)x)),
            DType.F16 => From(Array.ConvertAll(copy, x => (Half)x)),
            _ => throw new ArgumentException(dtype.Name()),
        };

        GuardedTensor From<T>(T[] elements)
            where T : unmanaged => FromBytes(MemoryMarshal.AsBytes(elements.AsSpan()), shape, dtype, rowGap);
    }

    /// <summary>An i32 tensor.</summary>
    public static GuardedTensor From(ReadOnlySpan<int> values, Shape shape) => FromBytes(MemoryMarshal.AsBytes(values), shape, DType.I32);

    /// <summary>A tensor of these elements, given as bytes in row-major order.</summary>
    public static GuardedTensor FromBytes(ReadOnlySpan<byte> elements, Shape shape, DType dtype, int rowGap = 0)
    {
        Assert.Equal(shape.Elements * dtype.Size(), elements.Length);
        return new GuardedTensor(shape, dtype, rowGap, elements);
    }

    /// <summary>All elements in row-major order, widened exactly.</summary>
    public double[] ToDoubles()
    {
        byte[] bytes = ToBytes();
        return Tensor.DType switch
        {
            DType.F32 => Array.ConvertAll(As<float>(), x => (double)x),
            DType.F64 => As<double>(),
            DType.BF16 => Array.ConvertAll(As<BFloat16>(), x => (double)(float)x),
            DType.F16 => Array.ConvertAll(As<Half>(), x => (double)x),
            DType.I32 => Array.ConvertAll(As<int>(), x => (double)x),
            _ => throw new NotSupportedException(Tensor.DType.Name()),
        };

        T[] As<T>()
            where T : unmanaged => MemoryMarshal.Cast<byte, T>(bytes).ToArray();
    }

    /// <summary>The elements' bytes in row-major order.</summary>
    public byte[] ToBytes()
    {
        byte[] block = Download();
        int size = Tensor.DType.Size();
        var bytes = new byte[Tensor.Elements * size];
        foreach ((int at, int i) in Places())
        {
            block.AsSpan(at, size).CopyTo(bytes.AsSpan(i * size));
        }

        return bytes;
    }

    /// <summary>Fails when a byte outside the elements has changed.</summary>
    public void AssertGuards()
    {
        byte[] outside = Download();
        int size = Tensor.DType.Size();
        foreach ((int at, _) in Places())
        {
            outside.AsSpan(at, size).Fill(Sentinel);
        }

        int changed = outside.AsSpan().IndexOfAnyExcept(Sentinel);
        Assert.True(changed < 0, $"byte {changed - _before} relative to the first element of {Tensor} (row gap {_rowGap}) was overwritten");
    }

    public void Dispose() => Tensor.Dispose();

    private byte[] Download()
    {
        var block = new byte[Tensor.Storage.ByteLength];
        Tensor.Device.CopyToHost(Tensor.Storage.Pointer, block);
        return block;
    }

    // Where each element is in the block, in bytes, and its index in row-major order.
    private IEnumerable<(int At, int Index)> Places()
    {
        Shape shape = Tensor.Shape;
        int size = Tensor.DType.Size();
        for (int i = 0; i < Tensor.Elements; i++)
        {
            long rest = i;
            long offset = 0;
            for (int d = shape.Rank - 1; d >= 0; d--)
            {
                offset += rest % shape[d] * Tensor.Strides[d];
                rest /= shape[d];
            }

            yield return (checked(_before + (int)(offset * size)), i);
        }
    }
}

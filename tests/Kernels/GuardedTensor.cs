using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>
/// A tensor inside a larger block: sentinels before and after it show any write outside, every element starts as poison
/// (all bits set: NaN, −1) so that an element left out is seen, and the first element is not aligned to a vector.
/// Rows may have a gap between them, which is guarded too.
/// </summary>
internal sealed unsafe class GuardedTensor : IDisposable
{
    private const byte Sentinel = 0xA5;
    private const int GuardBytes = 256;

    private readonly int _before;
    private readonly long _rowGap;

    private GuardedTensor(Shape shape, DType dtype, int rowGap)
    {
        // One element past a 64-byte boundary: aligned to its own size only.
        _before = GuardBytes + dtype.Size();
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
        Storage storage = Device.Cpu.Allocate(_before + (span * dtype.Size()) + GuardBytes);
        new Span<byte>((void*)storage.Pointer, checked((int)storage.ByteLength)).Fill(Sentinel);
        Tensor = new Tensor(storage, dtype, shape, new Strides(strides), _before / dtype.Size());
        ForEach((address, _) => new Span<byte>(address, dtype.Size()).Fill(0xFF));
    }

    private delegate void Visit(byte* address, long index);

    public Tensor Tensor { get; }

    public static implicit operator Tensor(GuardedTensor guarded) => guarded.Tensor;

    /// <summary>An output: every element is poison. <paramref name="rowGap"/> elements lie between rows.</summary>
    public static GuardedTensor Empty(Shape shape, DType dtype, int rowGap = 0) => new(shape, dtype, rowGap);

    /// <summary>A float tensor of these values, rounded to its dtype.</summary>
    public static GuardedTensor From(ReadOnlySpan<double> values, Shape shape, DType dtype, int rowGap = 0)
    {
        var result = new GuardedTensor(shape, dtype, rowGap);
        double[] copy = values.ToArray();
        Assert.Equal(shape.Elements, copy.Length);
        result.ForEach((address, i) =>
        {
            switch (dtype)
            {
                case DType.F32:
                    *(float*)address = (float)copy[i];
                    break;
                case DType.F64:
                    *(double*)address = copy[i];
                    break;
                case DType.BF16:
                    *(BFloat16*)address = (BFloat16)(float)copy[i];
                    break;
                case DType.F16:
                    *(Half*)address = (Half)copy[i];
                    break;
                default:
                    throw new ArgumentException(dtype.Name());
            }
        });
        return result;
    }

    /// <summary>An i32 tensor.</summary>
    public static GuardedTensor From(ReadOnlySpan<int> values, Shape shape)
    {
        var result = new GuardedTensor(shape, DType.I32, 0);
        int[] copy = values.ToArray();
        Assert.Equal(shape.Elements, copy.Length);
        result.ForEach((address, i) => *(int*)address = copy[i]);
        return result;
    }

    /// <summary>All elements in row-major order, widened exactly.</summary>
    public double[] ToDoubles()
    {
        var values = new double[Tensor.Elements];
        ForEach((address, i) => values[i] = Tensor.DType switch
        {
            DType.F32 => *(float*)address,
            DType.F64 => *(double*)address,
            DType.BF16 => *(BFloat16*)address,
            DType.F16 => (double)*(Half*)address,
            DType.I32 => *(int*)address,
            _ => throw new NotSupportedException(Tensor.DType.Name()),
        });
        return values;
    }

    /// <summary>The elements' bytes in row-major order.</summary>
    public byte[] ToBytes()
    {
        int size = Tensor.DType.Size();
        var bytes = new byte[Tensor.Elements * size];
        ForEach((address, i) => new ReadOnlySpan<byte>(address, size).CopyTo(bytes.AsSpan(checked((int)i * size))));
        return bytes;
    }

    /// <summary>Fails when a byte outside the elements has changed.</summary>
    public void AssertGuards()
    {
        Storage storage = Tensor.Storage;
        var outside = new byte[storage.ByteLength];
        new ReadOnlySpan<byte>((void*)storage.Pointer, outside.Length).CopyTo(outside);
        int size = Tensor.DType.Size();
        ForEach((address, _) => outside.AsSpan(checked((int)(address - (byte*)storage.Pointer)), size).Fill(Sentinel));
        int changed = outside.AsSpan().IndexOfAnyExcept(Sentinel);
        Assert.True(changed < 0, $"byte {changed - _before} relative to the first element of {Tensor} (row gap {_rowGap}) was overwritten");
    }

    public void Dispose() => Tensor.Dispose();

    private void ForEach(Visit visit)
    {
        Shape shape = Tensor.Shape;
        int size = Tensor.DType.Size();
        for (long i = 0; i < Tensor.Elements; i++)
        {
            long rest = i;
            long offset = 0;
            for (int d = shape.Rank - 1; d >= 0; d--)
            {
                offset += rest % shape[d] * Tensor.Strides[d];
                rest /= shape[d];
            }

            visit((byte*)Tensor.Pointer + (offset * size), i);
        }
    }
}

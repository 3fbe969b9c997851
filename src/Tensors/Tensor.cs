namespace Engine.Tensors;

/// <summary>
/// A strided view of a <see cref="Storage"/>: dtype, shape, strides in elements, offset. Creating a tensor or a view
/// takes a share of the storage and <see cref="Dispose"/> gives it back; whoever creates a tensor disposes it.
/// Operations on tensors live in <c>Engine.Kernels</c>; this type only describes memory.
/// </summary>
public sealed partial class Tensor : IDisposable
{
    private Storage? _storage;

    /// <summary>Makes a tensor over <paramref name="storage"/> and takes over one share of it.</summary>
    /// <exception cref="ArgumentException">
    /// Shape and strides differ in rank, or an element lies outside the storage; the share stays with the caller.
    /// </exception>
    public Tensor(Storage storage, DType dtype, Shape shape, Strides strides, long offset = 0)
        : this(dtype, shape, strides, offset, storage)
    {
        ArgumentNullException.ThrowIfNull(storage);
        CheckBounds(storage, dtype, shape, strides, offset);
    }

    // For views and fresh tensors, which lie inside their storage by construction.
    private Tensor(DType dtype, Shape shape, Strides strides, long offset, Storage storage, int border = 0)
    {
        _storage = storage;
        Border = border;
        DType = dtype;
        Shape = shape;
        Strides = strides;
        Offset = offset;
    }

    /// <summary>The memory below.</summary>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public Storage Storage
    {
        get
        {
            ObjectDisposedException.ThrowIf(_storage is null, this);
            return _storage;
        }
    }

    /// <summary>Where the tensor lives.</summary>
    public Device Device => Storage.Device;

    /// <summary>Element type.</summary>
    public DType DType { get; }

    /// <summary>Extents, outermost first.</summary>
    public Shape Shape { get; }

    /// <summary>Strides in elements.</summary>
    public Strides Strides { get; }

    /// <summary>First element's distance from the start of the storage, in elements.</summary>
    public long Offset { get; }

    /// <summary>
    /// Elements of scratch after each row of a matrix that was made with <see cref="EmptyBordered"/>; else 0, views included.
    /// Whoever holds the tensor may use them, one after the other: a low-rank path puts its narrow result there, so that the
    /// matrix and the result are one operand of a product.
    /// </summary>
    public int Border { get; }

    /// <summary>Number of elements.</summary>
    public long Elements => Shape.Elements;

    /// <summary>True once disposed.</summary>
    public bool IsDisposed => _storage is null;

    /// <summary>Bytes of the elements without gaps.</summary>
    public long ByteLength => Elements * DType.Size();

    /// <summary>Address of the first element on the device.</summary>
    public nint Pointer => Storage.Pointer + (nint)(Offset * DType.Size());

    /// <summary>True when the elements lie in row-major order without gaps, as no elements always do.</summary>
    public bool IsContiguous
    {
        get
        {
            long expected = 1;
            for (int i = Shape.Rank - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected)
                {
                    return Elements == 0;
                }

                expected *= Shape[i];
            }

            return true;
        }
    }

    /// <summary>Gives back the share of the storage; further calls do nothing.</summary>
    public void Dispose() => Interlocked.Exchange(ref _storage, null)?.Release();

    /// <summary>For example <c>f32[2, 3] on cpu</c>.</summary>
    public override string ToString() =>
        _storage is null ? $"{DType.Name()}{Shape} (disposed)" : $"{DType.Name()}{Shape} on {Device}";

    /// <summary>The elements as a span: host memory, contiguous, fewer than 2³¹ elements.</summary>
    /// <exception cref="InvalidOperationException">Wrong device, element type or layout.</exception>
    public unsafe Span<T> Span<T>()
        where T : unmanaged
    {
        if (Device.Kind != DeviceKind.Cpu || DType != DTypes.Of<T>() || !IsContiguous)
        {
            throw new InvalidOperationException($"no span of {typeof(T).Name} over {this}, contiguous: {IsContiguous}");
        }

        return new Span<T>((void*)Pointer, checked((int)Elements));
    }

    /// <summary>Copies the elements to a new host array, in row-major order; waits for the device.</summary>
    public unsafe T[] ToArray<T>()
        where T : unmanaged
    {
        if (DType != DTypes.Of<T>())
        {
            throw new InvalidOperationException($"an array of {typeof(T).Name} cannot hold {this}");
        }

        var result = new T[Elements];
        if (IsContiguous)
        {
            fixed (T* first = result)
            {
                Download(Device, Pointer, (byte*)first, ByteLength);
            }

            return result;
        }

        if (Shape.Rank > 0 && (Shape[^1] == 1 || Strides[^1] == 1))
        {
            // Row by row: an element at a time would wait for the device as often.
            int width = Shape[^1];
            fixed (T* first = result)
            {
                long row = 0;
                foreach (long offset in ElementOffsets(Shape.Rank - 1))
                {
                    Download(Device, Storage.Pointer + (nint)(offset * sizeof(T)), (byte*)(first + (row++ * width)), (long)width * sizeof(T));
                }
            }

            return result;
        }

        long i = 0;
        T element;
        foreach (long offset in ElementOffsets(Shape.Rank))
        {
            Device.CopyToHost(Storage.Pointer + (nint)(offset * sizeof(T)), new Span<byte>(&element, sizeof(T)));
            result[i++] = element;
        }

        return result;
    }

    /// <summary>Copies elements in from the host; the tensor is contiguous and as long as <paramref name="source"/>.</summary>
    /// <exception cref="InvalidOperationException">Another element type, another length, or not contiguous.</exception>
    public unsafe void CopyFrom<T>(ReadOnlySpan<T> source)
        where T : unmanaged
    {
        if (DType != DTypes.Of<T>() || !IsContiguous || source.Length != Elements)
        {
            throw new InvalidOperationException($"{source.Length} elements of {typeof(T).Name} do not fill {this}");
        }

        fixed (T* first = source)
        {
            Upload((byte*)first, Device, Pointer, ByteLength);
        }
    }

    /// <summary>Sets all bytes to zero; the tensor is contiguous.</summary>
    public void Clear()
    {
        if (!IsContiguous)
        {
            throw new InvalidOperationException($"cannot clear {this}: not contiguous");
        }

        Device.Clear(Pointer, ByteLength);
    }

    private static void CheckBounds(Storage storage, DType dtype, Shape shape, Strides strides, long offset)
    {
        if (strides.Rank != shape.Rank)
        {
            throw new ArgumentException($"shape {shape} has {shape.Rank} dimensions, its strides have {strides.Rank}");
        }

        if (shape.Elements == 0)
        {
            return;
        }

        // 128 bits hold the offset and six products of an int and a long.
        Int128 first = offset;
        Int128 last = offset;
        for (int i = 0; i < shape.Rank; i++)
        {
            Int128 span = (Int128)(shape[i] - 1) * strides[i];
            first += Int128.Min(span, 0);
            last += Int128.Max(span, 0);
        }

        if (first < 0 || (last + 1) * dtype.Size() > storage.ByteLength)
        {
            throw new ArgumentException(
                $"{dtype.Name()}{shape} reaches from element {first} to {last}; the storage has {storage.ByteLength} bytes");
        }
    }

    // Offsets in the storage, in elements, of what the first dimensions select, in row-major order.
    private IEnumerable<long> ElementOffsets(int dimensions)
    {
        if (Elements == 0)
        {
            yield break;
        }

        var index = new int[dimensions];
        while (true)
        {
            long offset = Offset;
            for (int i = 0; i < index.Length; i++)
            {
                offset += index[i] * Strides[i];
            }

            yield return offset;
            int d = index.Length - 1;
            while (d >= 0 && ++index[d] == Shape[d])
            {
                index[d--] = 0;
            }

            if (d < 0)
            {
                yield break;
            }
        }
    }
}

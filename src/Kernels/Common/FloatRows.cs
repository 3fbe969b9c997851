using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The elements of a float tensor as a kernel computes with them: runs of elements are read into and written from
/// <see cref="float"/> or <see cref="double"/>, rounding to nearest even. When the tensor already holds the compute type
/// nothing is copied: <see cref="Read{T}"/> and <see cref="Target{T}"/> return the tensor's own memory.
/// </summary>
internal readonly unsafe struct FloatRows
{
    private readonly nint _pointer;
    private readonly int _size;

    public FloatRows(Tensor tensor)
    {
        _pointer = tensor.Pointer;
        _size = tensor.DType.Size();
        DType = tensor.DType;
    }

    /// <summary>From the first element on; the caller steps by the matrix's stride.</summary>
    public FloatRows(RowMatrix matrix)
        : this(matrix.Address, matrix.DType)
    {
    }

    private FloatRows(nint pointer, DType dtype)
    {
        _pointer = pointer;
        _size = dtype.Size();
        DType = dtype;
    }

    public DType DType { get; }

    /// <summary>False for the default value, which stands for an absent optional tensor.</summary>
    public bool Exists => _pointer != 0;

    /// <summary>The rows of an optional tensor.</summary>
    public static FloatRows Optional(Tensor? tensor) => tensor is null ? default : new FloatRows(tensor);

    /// <summary>The rows of compute-dtype memory, such as a scratch buffer.</summary>
    public static FloatRows Of<T>(T* pointer)
        where T : unmanaged => new((nint)pointer, DTypes.Of<T>());

    /// <summary>Whether elements are used in place when the compute type is <typeparamref name="T"/>.</summary>
    public bool InPlace<T>()
        where T : unmanaged =>
        (typeof(T) == typeof(float) && DType == DType.F32) || (typeof(T) == typeof(double) && DType == DType.F64);

    /// <summary>
    /// <paramref name="count"/> elements from element <paramref name="offset"/>: the tensor's own memory, or converted
    /// into <paramref name="scratch"/> (not touched, and may be null, when <see cref="InPlace{T}"/>).
    /// </summary>
    public T* Read<T>(long offset, int count, T* scratch)
        where T : unmanaged
    {
        if (InPlace<T>())
        {
            return (T*)_pointer + offset;
        }

        FloatConvert.Load(DType, Address(offset), count, scratch);
        return scratch;
    }

    /// <summary>Where to put results before <see cref="Write{T}"/>: the tensor's own memory or <paramref name="scratch"/>.</summary>
    public T* Target<T>(long offset, T* scratch)
        where T : unmanaged => InPlace<T>() ? (T*)_pointer + offset : scratch;

    /// <summary>Rounds <paramref name="values"/> into the tensor; nothing to do when they are the tensor's own memory.</summary>
    public void Write<T>(T* values, long offset, int count)
        where T : unmanaged
    {
        if (!InPlace<T>())
        {
            FloatConvert.Store(values, DType, Address(offset), count);
        }
        else if ((T*)_pointer + offset != values)
        {
            new ReadOnlySpan<T>(values, count).CopyTo(new Span<T>((T*)_pointer + offset, count));
        }
    }

    /// <summary>Address of an element.</summary>
    public void* Address(long offset) => (byte*)_pointer + (offset * _size);
}

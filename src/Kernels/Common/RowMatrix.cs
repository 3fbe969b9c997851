using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A float tensor as a matrix of rows, all dimensions but the last joined; rank 2 may have a gap between rows.</summary>
internal readonly unsafe struct RowMatrix
{
    private RowMatrix(nint pointer, DType dtype, int rows, int columns, long stride)
    {
        (Address, DType, Rows, Columns, Stride) = (pointer, dtype, rows, columns, stride);
    }

    /// <summary>First element; 0 for the default value, which stands for an absent tensor.</summary>
    public nint Address { get; }

    public DType DType { get; }

    public int Rows { get; }

    public int Columns { get; }

    /// <summary>Elements between rows.</summary>
    public long Stride { get; }

    public bool Exists => Address != 0;

    public void* Pointer => (void*)Address;

    /// <summary>Checks layout and device, and that the tensor computes in the same precision as <paramref name="model"/>.</summary>
    public static RowMatrix Of(string op, Tensor tensor, Tensor model, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        Check.FloatStrided(op, tensor, name);
        if (tensor.Shape.Rank < 1)
        {
            Check.Throw(op, name, "has to have rows", tensor);
        }

        long stride = Check.Columns(tensor);
        if (tensor.Shape.Rank == 2 && (tensor.Shape[1] <= 1 || tensor.Strides[1] == 1))
        {
            stride = tensor.Shape[0] <= 1 ? stride : tensor.Strides[0];
        }
        else
        {
            Check.Contiguous(op, tensor, name);
        }

        if (stride < Check.Columns(tensor))
        {
            Check.Throw(op, name, "has to have rows that do not overlap", tensor);
        }

        if ((tensor.DType == DType.F64) != (model.DType == DType.F64))
        {
            Check.Throw(op, name, "has to be f64 when and only when the others are", tensor);
        }

        Check.SameDevice(op, tensor, model, name);
        return new RowMatrix(tensor.Pointer, tensor.DType, checked((int)Check.Rows(tensor)), Check.Columns(tensor), stride);
    }

    /// <summary>A tensor's rows as a tensor of rank 2: another share of it.</summary>
    public static Tensor View(string op, Tensor tensor)
    {
        RowMatrix rows = Of(op, tensor, tensor);
        return new Tensor(tensor.Storage.Retain(), tensor.DType, [rows.Rows, rows.Columns], new Strides([rows.Stride, 1]), tensor.Offset);
    }

    /// <summary>Checks the extents.</summary>
    public RowMatrix Sized(string op, Tensor tensor, int rows, int columns, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (Rows != rows || Columns != columns)
        {
            Check.Throw(op, name, $"has to have {rows} rows of {columns} elements", tensor);
        }

        return this;
    }

    /// <summary>Some of the rows.</summary>
    public RowMatrix Slice(int start, int count) =>
        new(Address + (nint)(start * Stride * DType.Size()), DType, count, Columns, Stride);

    /// <summary>The first columns.</summary>
    public RowMatrix First(int columns) => new(Address, DType, Rows, columns, Stride);

    /// <summary>Compute-dtype memory without gaps as a matrix.</summary>
    public static RowMatrix Over<T>(T* pointer, int rows, int columns)
        where T : unmanaged => new((nint)pointer, DTypes.Of<T>(), rows, columns, columns);
}

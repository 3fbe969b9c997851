namespace Engine.Tensors;

public sealed partial class Tensor
{
    /// <summary>Another tensor over the same elements, with its own share of the storage.</summary>
    public Tensor Share() => new(DType, Shape, Strides, Offset, Storage.Retain(), Border);

    /// <summary>The matrix and the first <paramref name="columns"/> columns of its border as one matrix [R, C + columns].</summary>
    /// <exception cref="ArgumentOutOfRangeException">The border is narrower.</exception>
    public Tensor WithBorder(int columns)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(columns);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(columns, Border);
        return new Tensor(DType, [Shape[0], Shape[1] + columns], Strides, Offset, Storage.Retain());
    }

    /// <summary>The first <paramref name="columns"/> columns of the border alone [R, columns].</summary>
    /// <exception cref="ArgumentOutOfRangeException">The border is narrower.</exception>
    public Tensor BorderColumns(int columns)
    {
        using Tensor whole = WithBorder(columns);
        return whole.Slice(1, Shape[1], columns);
    }

    /// <summary>
    /// The heads [batch, length, heads, width] that lie side by side in the rows of a matrix [batch·length, at least
    /// (first + heads)·width], beginning with head <paramref name="first"/>.
    /// </summary>
    /// <exception cref="ArgumentException">The matrix has other extents or its columns are not neighbours.</exception>
    public Tensor Heads(int batch, int length, int first, int heads, int width)
    {
        if (Shape.Rank != 2 || Shape[0] != (long)batch * length || Shape[1] < (long)(first + heads) * width || (Shape[1] > 1 && Strides[1] != 1))
        {
            throw new ArgumentException($"{this} has no {heads} heads of {width} from head {first} in {batch} rows of {length} tokens");
        }

        long row = Strides[0];
        return new Tensor(
            DType, [batch, length, heads, width], new Strides([length * row, row, width, 1]), Offset + ((long)first * width), Storage.Retain());
    }

    /// <summary>The same elements under another shape; this tensor is contiguous. One extent may be −1: it is inferred.</summary>
    /// <exception cref="ArgumentException">The number of elements differs.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not contiguous.</exception>
    public Tensor Reshape(params ReadOnlySpan<int> extents)
    {
        Span<int> wanted = stackalloc int[extents.Length];
        extents.CopyTo(wanted);
        int inferred = wanted.IndexOf(-1);
        if (inferred >= 0)
        {
            wanted[inferred] = 1;
            long others = new Shape(wanted).Elements;
            long extent = others == 0 ? 0 : Elements / others;
            if (extent > int.MaxValue)
            {
                throw new ArgumentException($"{this} cannot take shape [{string.Join(", ", extents.ToArray())}]: extent {extent} is too large");
            }

            wanted[inferred] = (int)extent;
        }

        var shape = new Shape(wanted);
        if (shape.Elements != Elements)
        {
            throw new ArgumentException($"{this} has {Elements} elements, shape {shape} has {shape.Elements}");
        }

        if (!IsContiguous)
        {
            throw new InvalidOperationException($"cannot reshape {this}: not contiguous");
        }

        return new Tensor(DType, shape, Strides.Contiguous(shape), Offset, Storage.Retain());
    }

    /// <summary>A view of <paramref name="length"/> entries from <paramref name="start"/> along a dimension.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such dimension, or the range leaves it.</exception>
    public Tensor Slice(Index dimension, int start, int length)
    {
        int d = dimension.GetOffset(Shape.Rank);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + (long)length, Shape[d], nameof(length));
        return new Tensor(DType, Shape.With(d, length), Strides, Offset + (start * Strides[d]), Storage.Retain());
    }

    /// <summary>A view with two dimensions exchanged.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such dimension.</exception>
    public Tensor Transpose(Index first, Index second)
    {
        int rank = Shape.Rank;
        int a = first.GetOffset(rank);
        int b = second.GetOffset(rank);
        Span<long> strides = stackalloc long[rank];
        for (int i = 0; i < rank; i++)
        {
            strides[i] = Strides[i == a ? b : i == b ? a : i];
        }

        // Checks the dimensions too, before a share is taken.
        Shape shape = Shape.With(a, Shape[b]).With(b, Shape[a]);
        return new Tensor(DType, shape, new Strides(strides), Offset, Storage.Retain());
    }
}

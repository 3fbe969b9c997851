namespace Engine.Tensors;

public sealed partial class Tensor
{
    /// <summary>Another tensor over the same elements, with its own share of the storage.</summary>
    public Tensor Share() => new(Storage.Retain(), DType, Shape, Strides, Offset);

    /// <summary>The same elements under another shape; this tensor is contiguous. One extent may be −1: it is inferred.</summary>
    /// <exception cref="ArgumentException">The number of elements differs.</exception>
    public Tensor Reshape(params ReadOnlySpan<int> extents)
    {
        Span<int> wanted = stackalloc int[extents.Length];
        extents.CopyTo(wanted);
        int inferred = wanted.IndexOf(-1);
        if (inferred >= 0)
        {
            wanted[inferred] = 1;
            long others = new Shape(wanted).Elements;
            wanted[inferred] = others == 0 ? 0 : checked((int)(Elements / others));
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

        return new Tensor(Storage.Retain(), DType, shape, Strides.Contiguous(shape), Offset);
    }

    /// <summary>A view of <paramref name="length"/> entries from <paramref name="start"/> along a dimension.</summary>
    public Tensor Slice(Index dimension, int start, int length)
    {
        int d = dimension.GetOffset(Shape.Rank);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start + (long)length, Shape[d], nameof(length));
        return new Tensor(Storage.Retain(), DType, Shape.With(d, length), Strides, Offset + (start * Strides[d]));
    }

    /// <summary>A view with two dimensions exchanged.</summary>
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

        return new Tensor(Storage.Retain(), DType, Shape.With(a, Shape[b]).With(b, Shape[a]), new Strides(strides), Offset);
    }
}

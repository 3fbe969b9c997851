using System.Runtime.CompilerServices;

namespace Engine.Tensors;

/// <summary>Distances in elements between neighbours along each dimension of a tensor, stored inline.</summary>
public readonly struct Strides
{
    private readonly Values _values;

    /// <summary>Creates strides from explicit values, outermost first.</summary>
    public Strides(params ReadOnlySpan<long> values)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(values.Length, Shape.MaxRank, nameof(values));
        Rank = values.Length;
        for (int i = 0; i < values.Length; i++)
        {
            _values[i] = values[i];
        }
    }

    /// <summary>Number of dimensions.</summary>
    public int Rank { get; }

    /// <summary>The stride of one dimension in elements.</summary>
    public long this[Index index]
    {
        get
        {
            int i = index.GetOffset(Rank);
            ArgumentOutOfRangeException.ThrowIfNegative(i, nameof(index));
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(i, Rank, nameof(index));
            return _values[i];
        }
    }

    /// <summary>Row-major strides without gaps.</summary>
    public static Strides Contiguous(Shape shape)
    {
        Span<long> values = stackalloc long[shape.Rank];
        long next = 1;
        for (int i = shape.Rank - 1; i >= 0; i--)
        {
            values[i] = next;
            next *= shape[i];
        }

        return new Strides(values);
    }

    [InlineArray(Shape.MaxRank)]
    private struct Values
    {
        private long _first;
    }
}

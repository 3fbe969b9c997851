using System.Collections;
using System.Runtime.CompilerServices;

namespace Engine.Tensors;

/// <summary>
/// The extents of a tensor, at most <see cref="MaxRank"/> of them, stored inline (no heap allocation).
/// Collection expressions build one: <c>Shape s = [batch, sequence, hidden];</c>. The empty shape is a scalar.
/// </summary>
[CollectionBuilder(typeof(Shape), nameof(Create))]
public readonly struct Shape : IEquatable<Shape>, IEnumerable<int>
{
    /// <summary>Most dimensions a shape can have.</summary>
    public const int MaxRank = 6;

    /// <summary>Most elements a shape can have: their bytes can be counted in 63 bits whatever the dtype.</summary>
    public const long MaxElements = long.MaxValue / 8;

    private readonly Extents _extents;

    /// <summary>Creates a shape from its extents, outermost first.</summary>
    /// <exception cref="ArgumentException">
    /// More than <see cref="MaxRank"/> extents, a negative one, or more than <see cref="MaxElements"/> elements.
    /// </exception>
    public Shape(params ReadOnlySpan<int> extents)
    {
        if (extents.Length > MaxRank)
        {
            throw new ArgumentException($"a shape has at most {MaxRank} dimensions, not {extents.Length}");
        }

        Rank = extents.Length;
        long elements = 1;
        for (int i = 0; i < extents.Length; i++)
        {
            if (extents[i] < 0)
            {
                throw new ArgumentException($"extent {i} of a shape is {extents[i]}; extents are not negative");
            }

            _extents[i] = extents[i];

            // Held just above the limit, the product cannot overflow, and a zero extent still makes it zero.
            elements = elements > uint.MaxValue && extents[i] != 0 && elements > MaxElements / extents[i]
                ? MaxElements + 1
                : elements * extents[i];
        }

        if (elements > MaxElements)
        {
            throw new ArgumentException($"a shape has at most {MaxElements} elements; {this} has more");
        }
    }

    /// <summary>Number of dimensions.</summary>
    public int Rank { get; }

    /// <summary>Number of elements: the product of the extents, 1 for a scalar.</summary>
    public long Elements
    {
        get
        {
            long product = 1;
            for (int i = 0; i < Rank; i++)
            {
                product *= _extents[i];
            }

            return product;
        }
    }

    /// <summary>The extent of one dimension; <c>shape[^1]</c> is the innermost.</summary>
    public int this[Index index]
    {
        get
        {
            int i = index.GetOffset(Rank);
            ArgumentOutOfRangeException.ThrowIfNegative(i, nameof(index));
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(i, Rank, nameof(index));
            return _extents[i];
        }
    }

    /// <summary>Shape equality.</summary>
    public static bool operator ==(Shape left, Shape right) => left.Equals(right);

    /// <summary>Shape inequality.</summary>
    public static bool operator !=(Shape left, Shape right) => !left.Equals(right);

    /// <summary>Used by collection expressions.</summary>
    public static Shape Create(ReadOnlySpan<int> extents) => new(extents);

    /// <summary>A copy with one extent replaced.</summary>
    /// <exception cref="ArgumentException">No such dimension, or an extent that the constructor refuses.</exception>
    public Shape With(Index index, int extent)
    {
        int changed = index.GetOffset(Rank);
        ArgumentOutOfRangeException.ThrowIfNegative(changed, nameof(index));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(changed, Rank, nameof(index));
        Span<int> extents = stackalloc int[Rank];
        for (int i = 0; i < Rank; i++)
        {
            extents[i] = _extents[i];
        }

        extents[changed] = extent;
        return new Shape(extents);
    }

    /// <inheritdoc/>
    public bool Equals(Shape other)
    {
        if (Rank != other.Rank)
        {
            return false;
        }

        for (int i = 0; i < Rank; i++)
        {
            if (_extents[i] != other._extents[i])
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Shape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = default(HashCode);
        for (int i = 0; i < Rank; i++)
        {
            hash.Add(_extents[i]);
        }

        return hash.ToHashCode();
    }

    /// <summary>For example <c>[8, 1024, 64]</c>.</summary>
    public override string ToString() => $"[{string.Join(", ", this)}]";

    /// <summary>Enumerates the extents, outermost first.</summary>
    public IEnumerator<int> GetEnumerator()
    {
        for (int i = 0; i < Rank; i++)
        {
            yield return _extents[i];
        }
    }

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    [InlineArray(MaxRank)]
    private struct Extents
    {
        private int _first;
    }
}

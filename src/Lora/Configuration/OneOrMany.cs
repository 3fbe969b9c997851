namespace Engine.Lora;

/// <summary>
/// A JSON value that may be written either as one scalar or as a list of them (PEFT's <c>layers_to_transform</c> and
/// <c>layers_pattern</c>). The two spellings mean the same; which one was used is kept so that a file is written back
/// as it was read.
/// </summary>
/// <typeparam name="T">The element: <see cref="int"/> or <see cref="string"/>.</typeparam>
public sealed class OneOrMany<T> : IEquatable<OneOrMany<T>>
{
    internal OneOrMany(IReadOnlyList<T> values, bool isScalar)
    {
        Values = values;
        IsScalar = isScalar;
    }

    /// <summary>The elements, in the order given; exactly one when <see cref="IsScalar"/>.</summary>
    public IReadOnlyList<T> Values { get; }

    /// <summary>True when the value was given without a list around it.</summary>
    public bool IsScalar { get; }

    /// <inheritdoc/>
    public bool Equals(OneOrMany<T>? other) =>
        other is not null && IsScalar == other.IsScalar && Values.SequenceEqual(other.Values);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as OneOrMany<T>);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.Add(IsScalar);
        foreach (T value in Values)
        {
            hash.Add(value);
        }

        return hash.ToHashCode();
    }

    /// <inheritdoc/>
    public override string ToString() => IsScalar ? $"{Values[0]}" : $"[{string.Join(", ", Values)}]";
}

/// <summary>Makes <see cref="OneOrMany{T}"/> values.</summary>
public static class OneOrMany
{
    /// <summary>A single value, written as a scalar.</summary>
    public static OneOrMany<T> One<T>(T value) => new([value], isScalar: true);

    /// <summary>A list, written as a list, even when it has one element or none.</summary>
    public static OneOrMany<T> Many<T>(params IEnumerable<T> values) => new([.. values], isScalar: false);
}

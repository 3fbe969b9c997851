using System.Buffers;

namespace Engine.Lora;

/// <summary>
/// What PEFT's <c>target_modules</c> and <c>exclude_modules</c> hold: either a list of module names (each matches a
/// module whose whole path is that name or ends in <c>.name</c>) or one regular expression that must match a module's
/// whole path. For <c>target_modules</c> the pattern <c>all-linear</c>, in any letter case, stands for every linear
/// layer but the output head.
/// </summary>
public sealed class NamesOrPattern : IEquatable<NamesOrPattern>
{
    /// <summary>The shorthand for every linear layer but the output head.</summary>
    public const string AllLinearShorthand = "all-linear";

    private static readonly SearchValues<char> s_listCharacters =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-, ");

    private NamesOrPattern(IReadOnlyList<string>? names, string? pattern)
    {
        Names = names;
        Pattern = pattern;
    }

    /// <summary>Every linear layer but the output head.</summary>
    public static NamesOrPattern AllLinear { get; } = FromPattern(AllLinearShorthand);

    /// <summary>The names, or null when this is a pattern.</summary>
    public IReadOnlyList<string>? Names { get; }

    /// <summary>The regular expression or shorthand, or null when this is a list.</summary>
    public string? Pattern { get; }

    /// <summary>True for the shorthand, which PEFT compares without regard to letter case.</summary>
    public bool IsAllLinear => string.Equals(Pattern, AllLinearShorthand, StringComparison.OrdinalIgnoreCase);

    /// <summary>A list of names or suffixes.</summary>
    public static NamesOrPattern FromNames(params IEnumerable<string> names) => new([.. names], null);

    /// <summary>A regular expression in Python's syntax, matched against the whole path.</summary>
    public static NamesOrPattern FromPattern(string pattern) => new(null, pattern);

    /// <summary>
    /// Reads a command-line argument: <c>all-linear</c>; names separated by commas (<c>q_proj,v_proj</c>), when the
    /// text holds nothing but letters, digits, <c>_</c>, <c>.</c>, <c>-</c> and commas; otherwise a regular expression.
    /// </summary>
    public static NamesOrPattern FromText(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string trimmed = text.Trim();
        bool isList = !trimmed.AsSpan().ContainsAnyExcept(s_listCharacters);
        return !isList || trimmed.Equals(AllLinearShorthand, StringComparison.OrdinalIgnoreCase)
            ? FromPattern(trimmed)
            : FromNames(trimmed.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
    }

    /// <inheritdoc/>
    public bool Equals(NamesOrPattern? other) =>
        other is not null && Pattern == other.Pattern && (Names ?? []).SequenceEqual(other.Names ?? []);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as NamesOrPattern);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.Add(Pattern);
        foreach (string name in Names ?? [])
        {
            hash.Add(name);
        }

        return hash.ToHashCode();
    }

    /// <inheritdoc/>
    public override string ToString() => Pattern ?? $"[{string.Join(", ", Names!)}]";
}

using System.Globalization;

namespace Engine.Cli.Demo;

/// <summary>Who may use a word or a number.</summary>
internal enum Pool
{
    /// <summary>The text the base model is trained on.</summary>
    Base,

    /// <summary>The rows the adapters are trained on.</summary>
    Train,

    /// <summary>The rows the adapters are measured on; seen by nothing before.</summary>
    HeldOut,
}

/// <summary>The words of one pool, by what they name.</summary>
/// <param name="Tables">Table names.</param>
/// <param name="TextColumns">Names of text columns.</param>
/// <param name="RealColumns">Names of number columns.</param>
/// <param name="Values">Words that text values are made of.</param>
internal sealed record PoolWords(
    IReadOnlyList<string> Tables,
    IReadOnlyList<string> TextColumns,
    IReadOnlyList<string> RealColumns,
    IReadOnlyList<string> Values);

/// <summary>
/// Splits every word and every number into three disjoint pools. A word's pool follows from its spelling (a hash of
/// the singular), whatever it is used for, so no list can put a word into two pools by mistake: a word that is a
/// column in the held-out rows is not a value, a table or a plural in the others either.
/// </summary>
internal static class WordPools
{
    private static readonly HashSet<string> s_listed =
        [.. Words(WordLists.Tables), .. Words(WordLists.TextColumns), .. Words(WordLists.RealColumns), .. Words(WordLists.Values)];

    private static readonly PoolWords[] s_pools = [Build(Pool.Base), Build(Pool.Train), Build(Pool.HeldOut)];

    /// <summary>The words of a pool.</summary>
    /// <param name="pool">The pool.</param>
    public static PoolWords Of(Pool pool) => s_pools[(int)pool];

    /// <summary>The pool of a word or of a number written in digits: 7/20 base, 8/20 train, 5/20 held out.</summary>
    /// <param name="word">Letters or digits, lower case.</param>
    public static Pool PoolOf(string word)
    {
        ulong hash = 14695981039346656037; // FNV-1a, 64 bits
        foreach (char c in word.EndsWith('s') ? word[..^1] : word)
        {
            hash = (hash ^ c) * 1099511628211;
        }

        hash ^= hash >> 32;
        return (hash % 20) switch
        {
            < 7 => Pool.Base,
            < 15 => Pool.Train,
            _ => Pool.HeldOut,
        };
    }

    /// <summary>The pool of a number.</summary>
    /// <param name="number">The number.</param>
    public static Pool PoolOf(int number) => PoolOf(number.ToString(CultureInfo.InvariantCulture));

    /// <summary>Whether the word, its singular or its plural is one of the real words of any pool.</summary>
    /// <param name="word">A lower-case word.</param>
    public static bool IsListed(string word) =>
        s_listed.Contains(word) || s_listed.Contains(word + "s") || (word.EndsWith('s') && s_listed.Contains(word[..^1]));

    private static string[] Words(string list) =>
        list.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);

    private static PoolWords Build(Pool pool)
    {
        string[] Mine(string list) => [.. Words(list).Where(word => PoolOf(word) == pool)];

        return new PoolWords(
            Mine(WordLists.Tables), Mine(WordLists.TextColumns), Mine(WordLists.RealColumns), Mine(WordLists.Values));
    }
}

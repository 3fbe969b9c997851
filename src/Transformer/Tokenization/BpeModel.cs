using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>The options of a BPE model besides vocabulary and merges, named as in tokenizer.json.</summary>
internal sealed record BpeOptions
{
    public int? UnknownId { get; init; }

    public bool FuseUnknown { get; init; }

    public bool ByteFallback { get; init; }

    public bool IgnoreMerges { get; init; }

    public string? ContinuingSubwordPrefix { get; init; }

    public string? EndOfWordSuffix { get; init; }
}

/// <summary>
/// Byte-pair encoding (Sennrich, Haddow, Birch 2016, "Neural Machine Translation of Rare Words with Subword Units"):
/// vocabulary and ranked merges. Immutable and shared; the working memory of an encoding is a <see cref="BpeEncoder"/>.
/// </summary>
internal sealed class BpeModel
{
    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _idsBySpan;
    private readonly Dictionary<int, string> _tokens = [];
    private readonly Dictionary<long, (int Rank, int NewId)> _merges;
    private readonly int[] _byteIds = new int[256];
    private readonly Lazy<HashSet<long>> _joints;

    public BpeModel(Dictionary<string, int> ids, Dictionary<long, (int Rank, int NewId)> merges, BpeOptions options)
    {
        _ids = ids;
        _idsBySpan = ids.GetAlternateLookup<ReadOnlySpan<char>>();
        _merges = merges;
        Options = options;
        foreach ((string token, int id) in ids)
        {
            _tokens.Add(id, token);
        }

        _joints = new Lazy<HashSet<long>>(FindJoints);
        for (int value = 0; value < 256; value++)
        {
            _byteIds[value] = ids.GetValueOrDefault($"<0x{value:X2}>", -1);
        }
    }

    public BpeOptions Options { get; }

    public int Count => _ids.Count;

    public IReadOnlyDictionary<string, int> Ids => _ids;

    public IReadOnlyDictionary<int, string> Tokens => _tokens;

    public static long Pair(int left, int right) => ((long)left << 32) | (uint)right;

    public bool TryGetId(ReadOnlySpan<char> token, out int id) => _idsBySpan.TryGetValue(token, out id);

    public bool TryGetMerge(int left, int right, out (int Rank, int NewId) merge) =>
        _merges.TryGetValue(Pair(left, right), out merge);

    /// <summary>
    /// Whether two neighbouring characters may end up in one token: some merge makes a token that holds them side by side.
    /// Where not, a word can be cut and its parts encoded on their own with the same result.
    /// </summary>
    public bool CanJoin(Rune left, Rune right) => _joints.Value.Contains(Pair(left.Value, right.Value));

    private HashSet<long> FindJoints()
    {
        var joints = new HashSet<long>();
        foreach ((_, int id) in _merges.Values)
        {
            Rune? previous = null;
            foreach (Rune rune in _tokens[id].EnumerateRunes())
            {
                if (previous is Rune left)
                {
                    joints.Add(Pair(left.Value, rune.Value));
                }

                previous = rune;
            }
        }

        return joints;
    }

    /// <summary>The id of the token &lt;0xNN&gt;, or −1.</summary>
    public int ByteId(byte value) => _byteIds[value];
}

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

    /// <summary>The id of the token &lt;0xNN&gt;, or −1.</summary>
    public int ByteId(byte value) => _byteIds[value];
}

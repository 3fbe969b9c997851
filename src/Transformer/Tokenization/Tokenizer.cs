using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// Text to token ids and back, exactly as the Hugging Face `tokenizers` library does with the same tokenizer.json:
/// byte-level BPE (GPT-2, Llama 3, Qwen) and SentencePiece-style BPE (Llama 2, Mistral). Immutable and thread-safe.
/// </summary>
/// <remarks>
/// A .NET string may hold half a surrogate pair, which is no text; it is read as U+FFFD. "truncation" and "padding" of
/// the file are not applied, as in `transformers`: a text's ids do not depend on a batch.
/// </remarks>
public sealed class Tokenizer
{
    private readonly TokenizerParts _parts;
    private BpeEncoder? _spare;

    internal Tokenizer(TokenizerParts parts, string file)
    {
        _parts = parts;
        File = file;
        var names = new HashSet<string>(parts.Model.Ids.Keys);
        int highest = -1;
        foreach (int id in parts.Model.Ids.Values)
        {
            highest = Math.Max(highest, id);
        }

        foreach (AddedToken token in parts.Added.Tokens)
        {
            names.Add(token.Content);
            highest = Math.Max(highest, token.Id);
        }

        VocabularySize = names.Count;
        IdLimit = highest + 1;
        SpecialTokens = SpecialTokens.Read(Path.GetDirectoryName(Path.GetFullPath(file))!, parts, TokenToId);
    }

    /// <summary>The tokenizer.json it was read from.</summary>
    public string File { get; }

    /// <summary>How many tokens there are, added tokens included.</summary>
    public int VocabularySize { get; }

    /// <summary>The highest id plus one: the least number of rows an embedding needs. Ids may have gaps.</summary>
    public int IdLimit { get; }

    /// <summary>Which tokens begin, end and pad a text.</summary>
    public SpecialTokens SpecialTokens { get; }

    /// <summary>Reads a tokenizer.json, or the one in a model directory.</summary>
    /// <exception cref="EngineDataException">
    /// The file is missing or malformed, or uses a part that is not supported; the message names the file, field and value.
    /// </exception>
    public static Tokenizer Load(string tokenizerJsonPathOrModelDir)
    {
        ArgumentException.ThrowIfNullOrEmpty(tokenizerJsonPathOrModelDir);
        string file = tokenizerJsonPathOrModelDir;
        if (Directory.Exists(file))
        {
            file = Path.Combine(file, "tokenizer.json");
            if (!System.IO.File.Exists(file))
            {
                throw new EngineDataException(
                    $"{tokenizerJsonPathOrModelDir} has no tokenizer.json; save the tokenizer in the fast format "
                    + "(transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...))");
            }
        }
        else if (!System.IO.File.Exists(file))
        {
            throw new EngineDataException($"{file}: no such file or directory; a tokenizer.json or a model directory is needed");
        }

        return new Tokenizer(TokenizerJsonReader.Read(file), file);
    }

    /// <summary>The ids of a text.</summary>
    /// <param name="text">Any text; special tokens in it are recognised.</param>
    /// <param name="addSpecialTokens">Whether the file's template (a beginning token, say) is put around it.</param>
    public int[] Encode(string text, bool addSpecialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<Piece> pieces = _parts.Added.Extract(WellFormed(text), _parts.Normalizer);
        if (_parts.PreTokenizer is not null)
        {
            pieces = _parts.PreTokenizer.Apply(pieces);
        }

        var ids = new List<int>(pieces.Count + 2);
        if (addSpecialTokens)
        {
            ids.AddRange(_parts.PostProcessor.Before);
        }

        // One encoder (a word cache and scratch) is kept for the next call; concurrent calls make their own.
        BpeEncoder encoder = Interlocked.Exchange(ref _spare, null) ?? new BpeEncoder(_parts.Model);
        foreach (Piece piece in pieces)
        {
            if (piece.TokenId >= 0)
            {
                ids.Add(piece.TokenId);
            }
            else
            {
                encoder.Encode(piece.Span, ids);
            }
        }

        Interlocked.Exchange(ref _spare, encoder);
        if (addSpecialTokens)
        {
            ids.AddRange(_parts.PostProcessor.After);
        }

        return [.. ids];
    }

    /// <summary>The text of a sequence of ids. Ids that no token has are passed over, as the reference does.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="skipSpecialTokens">Whether special tokens are left out.</param>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens = true)
    {
        var tokens = new List<string>(ids.Length);
        foreach (int id in ids)
        {
            string? token = _parts.Added.TextOf(id) ?? _parts.Model.Tokens.GetValueOrDefault(id);
            if (token is not null && !(skipSpecialTokens && _parts.Added.IsSpecial(token)))
            {
                tokens.Add(token);
            }
        }

        return _parts.Decoder is null ? string.Join(' ', tokens) : string.Concat(_parts.Decoder.Apply(tokens));
    }

    /// <summary>The token with an id, in the vocabulary's own spelling (a space is "Ġ" or "▁"), or null.</summary>
    public string? IdToToken(int id) => _parts.Added.ContentOf(id) ?? _parts.Model.Tokens.GetValueOrDefault(id);

    /// <summary>The id of a token in the vocabulary's own spelling, or null.</summary>
    public int? TokenToId(string token)
    {
        ArgumentNullException.ThrowIfNull(token);
        return _parts.Added.Find(token)?.Id ?? (_parts.Model.TryGetId(token, out int id) ? id : null);
    }

    /// <summary>Whether an id is that of a special token.</summary>
    public bool IsSpecial(int id) => _parts.Added.IsSpecial(id);

    /// <summary>A decoder for ids that arrive one by one.</summary>
    public TokenStreamDecoder CreateStreamDecoder(bool skipSpecialTokens = true) => new(this, skipSpecialTokens);

    private static string WellFormed(string text)
    {
        int at = text.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF');
        return at < 0 ? text : string.Concat(text.EnumerateRunes().Select(r => r.ToString()));
    }
}

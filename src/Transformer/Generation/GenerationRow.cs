using System.Runtime.InteropServices;
using Engine.Transformer.Tokenization;

namespace Engine.Transformer;

/// <summary>The state of one row while a batch generates.</summary>
internal sealed class GenerationRow
{
    private readonly GenerationOptions _options;
    private readonly List<int> _ids;
    private readonly int _promptLength;
    private readonly StreamedText? _streamed;
    private readonly int _limit;

    public GenerationRow(int index, GenerationRequest request, GenerationOptions options, int maxPositions, Tokenizer? streamTo)
    {
        Index = index;
        Request = request;
        _options = options;
        _promptLength = request.Prompt.Count;
        int wanted = request.MaxNewTokens ?? options.MaxNewTokens;
        _limit = Math.Min(wanted, maxPositions - _promptLength);

        // Room for all that can come, so that no step has to make it.
        _ids = new List<int>(_promptLength + Math.Max(0, _limit));
        _ids.AddRange(request.Prompt);
        _streamed = streamTo is null ? null : new StreamedText(streamTo, options.StopStrings);
    }

    /// <summary>Index among the requests.</summary>
    public int Index { get; }

    public GenerationRequest Request { get; }

    /// <summary>Set once the row has ended.</summary>
    public FinishReason? Finish { get; private set; }

    /// <summary>Tokens generated so far: the number of the next draw.</summary>
    public int Generated => _ids.Count - _promptLength;

    /// <summary>Most tokens that the row can still take.</summary>
    public int Remaining => _limit - Generated;

    /// <summary>The token to feed next.</summary>
    public int LastId => _ids[^1];

    /// <summary>Position of <see cref="LastId"/>.</summary>
    public int LastPosition => _ids.Count - 1;

    /// <summary>The prompt and what was generated.</summary>
    public ReadOnlySpan<int> Ids => CollectionsMarshal.AsSpan(_ids);

    /// <summary>Appends a token and says what has become known by it.</summary>
    public GeneratedToken Append(int id)
    {
        _ids.Add(id);
        bool stopToken = _options.StopTokenIds.Contains(id);
        string? text = stopToken ? "" : _streamed?.Add(id);
        Finish = stopToken ? FinishReason.StopToken
            : _streamed is { Stopped: true } ? FinishReason.StopString
            : Generated >= _limit ? FinishReason.Length
            : null;
        if (_streamed is not null && Finish is not null)
        {
            text += _streamed.Finish();

            // The held-back rest may complete a stop string.
            Finish = Finish == FinishReason.Length && _streamed.Stopped ? FinishReason.StopString : Finish;
        }

        return new GeneratedToken(Index, id, _streamed is null ? null : text, Finish);
    }

    /// <summary>The row's result so far.</summary>
    public GenerationResult Result(Tokenizer? tokenizer)
    {
        int[] ids = Ids[_promptLength..].ToArray();
        string? text = _streamed?.Text;
        if (text is null && tokenizer is not null)
        {
            int stop = Finish == FinishReason.StopToken ? 1 : 0;
            text = tokenizer.Decode(ids.AsSpan(0, ids.Length - stop));
        }

        return new GenerationResult(ids, text, Finish ?? FinishReason.Length);
    }
}

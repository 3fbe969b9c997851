using System.Runtime.InteropServices;
using Engine.Transformer.Tokenization;

namespace Engine.Transformer;

/// <summary>The state of one row while a batch generates.</summary>
internal sealed class GenerationRow
{
    private readonly GenerationOptions _options;
    private readonly List<int> _ids = [];
    private readonly List<int> _distinct = [];
    private readonly HashSet<int>? _seen;
    private readonly StreamedText? _streamed;
    private readonly int _limit;

    public GenerationRow(int index, GenerationRequest request, GenerationOptions options, int maxPositions, Tokenizer? streamTo)
    {
        Index = index;
        Request = request;
        _options = options;
        int wanted = request.MaxNewTokens ?? options.MaxNewTokens;
        _limit = Math.Min(wanted, maxPositions - request.Prompt.Count);
        _streamed = streamTo is null ? null : new StreamedText(streamTo, options.StopStrings);
        if (options.RepetitionPenalty != 1)
        {
            _seen = [];
            foreach (int id in request.Prompt)
            {
                See(id);
            }
        }
    }

    /// <summary>Index among the requests.</summary>
    public int Index { get; }

    public GenerationRequest Request { get; }

    /// <summary>Set once the row has ended.</summary>
    public FinishReason? Finish { get; private set; }

    /// <summary>Draws so far: the counter of the row's random numbers.</summary>
    public int Generated => _ids.Count;

    /// <summary>Most tokens that the row can still take.</summary>
    public int Remaining => _limit - _ids.Count;

    /// <summary>The token to feed next.</summary>
    public int LastId => _ids[^1];

    /// <summary>Position of <see cref="LastId"/>.</summary>
    public int LastPosition => Request.Prompt.Count + _ids.Count - 1;

    /// <summary>Each id of prompt and generated part once; kept only where there is a repetition penalty.</summary>
    public ReadOnlySpan<int> Seen => CollectionsMarshal.AsSpan(_distinct);

    /// <summary>Appends a token and says what has become known by it.</summary>
    public GeneratedToken Append(int id)
    {
        _ids.Add(id);
        See(id);
        bool stopToken = _options.StopTokenIds.Contains(id);
        string? text = stopToken ? "" : _streamed?.Add(id);
        Finish = stopToken ? FinishReason.StopToken
            : _streamed is { Stopped: true } ? FinishReason.StopString
            : _ids.Count >= _limit ? FinishReason.Length
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
        string? text = _streamed?.Text;
        if (text is null && tokenizer is not null)
        {
            int stop = Finish == FinishReason.StopToken ? 1 : 0;
            text = tokenizer.Decode(CollectionsMarshal.AsSpan(_ids)[..(_ids.Count - stop)]);
        }

        return new GenerationResult(_ids, text, Finish ?? FinishReason.Length);
    }

    private void See(int id)
    {
        if (_seen is not null && _seen.Add(id))
        {
            _distinct.Add(id);
        }
    }
}

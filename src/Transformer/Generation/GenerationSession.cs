using System.Runtime.InteropServices;
using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer.Tokenization;

namespace Engine.Transformer;

/// <summary>
/// One batch from prompts to results. Prompts of different lengths are padded on the left, so that all rows append to the
/// cache at the same slot; a row's positions count its own tokens and its first visible key lies past its padding.
/// Rows that have ended leave the batch, and their keys and values the cache, once they are an eighth of it.
/// </summary>
internal sealed class GenerationSession : IDisposable
{
    // Tokens (rows × length) of a prefill pass: bounds its activations; a longer prompt goes through in several passes.
    private const int PrefillTokens = 4096;

    // Room in a new cache beyond the prompt; it doubles when that is used up. Growing voids recorded steps, so that devices
    // that record get more at once.
    private const int FirstRoom = 64;
    private const int RoomWhereRecorded = 1024;

    private readonly DecoderModel _model;
    private readonly GenerationOptions _options;
    private readonly GenerationRow[] _rows;
    private readonly List<GenerationRow> _live;
    private readonly SamplingOptions _sampling;
    private readonly float[] _logits;
    private readonly Tape _tape = Tape.Inference();
    private readonly int _promptSlots;
    private readonly int _mostSlots;
    private readonly KvCache _cache;
    private readonly StepGraphs<int> _graphs;
    private readonly bool _choosesOnHost;
    private DecodeStep? _decode;
    private bool _prefilled;

    public GenerationSession(
        DecoderModel model, IReadOnlyList<GenerationRequest> requests, GenerationOptions options, Tokenizer? streamTo)
    {
        _model = model;
        _options = options;
        _rows = new GenerationRow[requests.Count];
        for (int i = 0; i < _rows.Length; i++)
        {
            Check(requests[i], i);
            _rows[i] = new GenerationRow(i, requests[i], options, model.Config.MaxPositions, streamTo);
        }

        if (requests.Any(r => r.Adapter is null) && requests.Any(r => r.Adapter is not null))
        {
            throw new ArgumentException("some requests name an adapter and others do not; use -1 for rows of the base alone", nameof(requests));
        }

        _live = [.. _rows];
        _logits = new float[model.Config.VocabularySize];
        _sampling = new SamplingOptions(
            options.IsGreedy ? 0 : options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty);
        _promptSlots = requests.Max(r => r.Prompt.Count);
        int longest = _rows.Max(r => r.Remaining);
        _mostSlots = _promptSlots + longest;
        int room = model.Device.ShapeGranularity > 1 ? RoomWhereRecorded : FirstRoom;
        _cache = KvCache.For(model, _rows.Length, _promptSlots + Math.Min(longest, room));
        _graphs = new StepGraphs<int>(model.Device);

        // The penalty looks at a history that grows with every token; it is rare enough to stay with the host.
        _choosesOnHost = _sampling.RepetitionPenalty != 1;
    }

    /// <summary>True when every row has ended.</summary>
    public bool Done => _live.Count == 0;

    /// <summary>Generates one token for every row that has not ended and appends them to <paramref name="tokens"/>, by row.</summary>
    public void Step(List<GeneratedToken> tokens, CancellationToken cancellation)
    {
        if (_prefilled)
        {
            Decode(tokens);
        }
        else
        {
            using Variable hidden = Prefill(cancellation);
            Select(hidden, tokens);
            _prefilled = true;
        }

        Compact();
    }

    /// <summary>What each request gave, in their order.</summary>
    public GenerationResult[] Results(Tokenizer? tokenizer) => [.. _rows.Select(r => r.Result(tokenizer))];

    public void Dispose()
    {
        _graphs.Dispose();
        _decode?.Dispose();
        _cache.Dispose();
        _tape.Dispose();
    }

    private void Check(GenerationRequest request, int index)
    {
        int limit = _model.Config.MaxPositions;
        if (request.Prompt.Count == 0)
        {
            throw new EngineDataException($"prompt {index} is empty; generation needs at least one token to start from");
        }

        if (request.Prompt.Count >= limit)
        {
            throw new EngineDataException(
                $"prompt {index} has {request.Prompt.Count} tokens; the model's longest sequence is {limit} (max_position_embeddings), so that a prompt can have at most {limit - 1}");
        }

        int vocabulary = _model.Config.VocabularySize;
        for (int i = 0; i < request.Prompt.Count; i++)
        {
            if ((uint)request.Prompt[i] >= (uint)vocabulary)
            {
                throw new EngineDataException(
                    $"prompt {index} has token id {request.Prompt[i]} at index {i}; the model's vocabulary has {vocabulary} entries (0 to {vocabulary - 1})");
            }
        }

        if (request.MaxNewTokens is < 1)
        {
            throw new ArgumentException($"max_new_tokens of request {index} is {request.MaxNewTokens}; it must be at least 1");
        }
    }

    // Returns the last position's hidden state of each row [rows, hidden].
    private Variable Prefill(CancellationToken cancellation)
    {
        int chunk = Math.Max(1, PrefillTokens / _live.Count);
        for (int start = 0; ; start += chunk)
        {
            cancellation.ThrowIfCancellationRequested();
            int length = Math.Min(chunk, _promptSlots - start);
            Variable hidden = Prefill(start, length);
            if (start + length < _promptSlots)
            {
                hidden.Dispose();
                continue;
            }

            using (hidden)
            using (Tensor last = Tensor.From([.. Enumerable.Range(0, _live.Count).Select(b => (b * length) + length - 1)], [_live.Count], _model.Device))
            {
                return _tape.GatherRows(hidden, last);
            }
        }
    }

    // Slots start … start + length − 1 of all rows. A row's padding is token 0 at position 0, which no other token sees.
    private Variable Prefill(int start, int length)
    {
        int[] ids = new int[_live.Count * length];
        int[] positions = new int[ids.Length];
        int[] keyStart = new int[ids.Length];
        for (int b = 0; b < _live.Count; b++)
        {
            IReadOnlyList<int> prompt = _live[b].Request.Prompt;
            int padding = _promptSlots - prompt.Count;
            for (int t = 0; t < length; t++)
            {
                int position = start + t - padding;
                ids[(b * length) + t] = position < 0 ? 0 : prompt[position];
                positions[(b * length) + t] = Math.Max(position, 0);
                keyStart[(b * length) + t] = padding;
            }
        }

        using BatchContext batch = Context(length, positions, keyStart);
        return _model.Hidden(_tape, batch, ids);
    }

    private void Decode(List<GeneratedToken> tokens)
    {
        _cache.Reserve(_cache.Length + 1, _mostSlots);
        if (_decode?.Rows != _live.Count)
        {
            _decode?.Dispose();
            _decode = new DecodeStep(_model, _cache, _tape, _live.Count, RowAdapters(), _sampling, _choosesOnHost);
        }

        Span<int> padding = _live.Count <= 256 ? stackalloc int[_live.Count] : new int[_live.Count];
        for (int b = 0; b < padding.Length; b++)
        {
            GenerationRow row = _live[b];
            _decode.Ids[b] = row.LastId;
            _decode.Positions[b] = row.LastPosition;
            _decode.Draws[b] = _sampling.Temperature == 0 ? 0 : Sampling.Uniform(_options.Seed, row.Request.Stream, (ulong)row.Generated);
            padding[b] = _promptSlots - row.Request.Prompt.Count;
        }

        _decode.Queue(_graphs, padding);
        _model.Device.Synchronize();
        if (!_choosesOnHost)
        {
            Sampling.RequireIds(_decode.Chosen);
        }

        for (int b = 0; b < _live.Count; b++)
        {
            GenerationRow row = _live[b];
            if (row.Finish is null)
            {
                tokens.Add(row.Append(_choosesOnHost
                    ? Sampling.Select(_decode.Logits(b), row.Ids, in _sampling, _options.Seed, row.Request.Stream, (ulong)row.Generated)
                    : _decode.Chosen[b]));
            }
        }
    }

    private void Select(Variable hidden, List<GeneratedToken> tokens)
    {
        using BatchContext batch = Context(1, new int[_live.Count], new int[_live.Count]);
        using Variable logits = _model.Logits(_tape, batch, hidden);
        using Tensor f32 = logits.Value.DType == DType.F32 ? logits.Value.Share() : logits.Value.EmptyLike(DType.F32);
        if (logits.Value.DType != DType.F32)
        {
            Cast.Run(logits.Value, f32);
        }

        for (int b = 0; b < _live.Count; b++)
        {
            GenerationRow row = _live[b];
            if (row.Finish is null)
            {
                using Tensor one = f32.Slice(0, b, 1);
                one.Device.CopyToHost(one.Pointer, MemoryMarshal.AsBytes(_logits.AsSpan()));
                int id = Sampling.Select(
                    _logits, row.Ids, in _sampling, _options.Seed, row.Request.Stream, (ulong)row.Generated);
                tokens.Add(row.Append(id));
            }
        }
    }

    private void Compact()
    {
        int ended = 0;
        foreach (GenerationRow row in _live)
        {
            ended += row.Finish is null ? 0 : 1;
        }

        if (ended == 0 || (ended < _live.Count && ended * 8 < _live.Count))
        {
            return;
        }

        int[] kept = [.. Enumerable.Range(0, _live.Count).Where(b => _live[b].Finish is null)];
        _live.RemoveAll(r => r.Finish is not null);
        _cache.KeepRows(kept);
    }

    private BatchContext Context(int length, int[] positions, int[] keyStart) =>
        new(_model.Device, _live.Count, length, positions, keyStart)
        {
            Cache = _cache,
            RowAdapters = RowAdapters(),
        };

    private int[]? RowAdapters() => _live[0].Request.Adapter is null ? null : [.. _live.Select(r => r.Request.Adapter!.Value)];
}

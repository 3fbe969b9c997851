using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// One decoding step of a fixed number of rows: the last token of each goes through the model, its key and value enter the
/// cache, and the next token is chosen. All that changes from step to step is in device memory, so that the step can be
/// recorded and replayed.
/// </summary>
internal sealed class DecodeStep : IDisposable
{
    private readonly DecoderModel _model;
    private readonly KvCache _cache;
    private readonly SamplingOptions _sampling;
    private readonly Tape _tape;
    private readonly StagedTensor _ids;
    private readonly StagedTensor _positions;
    private readonly StagedTensor _slot;
    private readonly StagedTensor _length;
    private readonly StagedTensor _draws;
    private readonly StagedTensor _chosen;
    private readonly StagedTensor? _logits;
    private readonly Dictionary<int, StagedTensor> _keyStarts = [];
    private readonly BatchContext _context;

    /// <summary>Makes room for steps of <paramref name="rows"/> rows.</summary>
    /// <param name="model">The model.</param>
    /// <param name="cache">The cache; it holds as many rows.</param>
    /// <param name="tape">A tape that does not record.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="rowAdapters">The adapter of each row, or null.</param>
    /// <param name="sampling">How tokens are chosen.</param>
    /// <param name="onHost">The logits go to the host, which chooses.</param>
    public DecodeStep(
        DecoderModel model, KvCache cache, Tape tape, int rows, IReadOnlyList<int>? rowAdapters, SamplingOptions sampling, bool onHost)
    {
        Device device = model.Device;
        (_model, _cache, _tape, _sampling, Rows) = (model, cache, tape, sampling, rows);
        _ids = new StagedTensor([rows], DType.I32, device);
        _positions = new StagedTensor([rows, 1], DType.I32, device);
        _slot = new StagedTensor([1], DType.I32, device);
        _length = new StagedTensor([1], DType.I32, device);
        _draws = new StagedTensor([rows], DType.F64, device);
        _chosen = new StagedTensor([rows], DType.I32, device);
        _logits = onHost ? new StagedTensor([rows, model.Config.VocabularySize], DType.F32, device) : null;
        foreach (int window in model.Windows)
        {
            _keyStarts.Add(window, new StagedTensor([rows, 1], DType.I32, device));
        }

        _context = new BatchContext(
            rows, 1, model.Config.MaxPositions, _positions.Tensor, _keyStarts.Select(k => KeyValuePair.Create(k.Key, k.Value.Tensor)))
        {
            Cache = cache,
            CachePosition = _slot.Tensor,
            CacheLength = _length.Tensor,
            RowAdapters = rowAdapters,
        };
    }

    /// <summary>Number of rows.</summary>
    public int Rows { get; }

    /// <summary>The tokens to feed [rows]; the host fills them before <see cref="Queue"/>.</summary>
    public Span<int> Ids => _ids.Host<int>();

    /// <summary>Their positions [rows].</summary>
    public Span<int> Positions => _positions.Host<int>();

    /// <summary>Uniform numbers in [0, 1) for the draws [rows]; not read when the best token is chosen.</summary>
    public Span<double> Draws => _draws.Host<double>();

    /// <summary>The tokens chosen [rows], −1 where the logits are damaged; there once the device was waited for.</summary>
    public ReadOnlySpan<int> Chosen => _chosen.Host<int>();

    /// <summary>A row's logits on the host; there once the device was waited for.</summary>
    public ReadOnlySpan<float> Logits(int row) =>
        _logits!.Host<float>().Slice(row * _model.Config.VocabularySize, _model.Config.VocabularySize);

    /// <summary>Sends the inputs to the device, runs or replays the step, and queues its result's way back.</summary>
    /// <param name="graphs">Recordings, by number of rows.</param>
    /// <param name="padding">Slots of left padding of each row [rows].</param>
    public void Queue(StepGraphs<int> graphs, ReadOnlySpan<int> padding)
    {
        int slot = _cache.Length;
        _slot.Host<int>()[0] = slot;
        _length.Host<int>()[0] = slot + 1;
        foreach ((int window, StagedTensor starts) in _keyStarts)
        {
            Span<int> host = starts.Host<int>();
            padding.CopyTo(host);
            BatchContext.ApplyWindow(host, 1, slot, window);
            starts.Upload();
        }

        _ids.Upload();
        _positions.Upload();
        _slot.Upload();
        _length.Upload();
        if (_sampling.Temperature != 0)
        {
            _draws.Upload();
        }

        graphs.Run(Rows, this, static step => step.Work());
        _cache.Advance(1);
        (_logits ?? _chosen).Download();
    }

    public void Dispose()
    {
        _context.Dispose();
        _ids.Dispose();
        _positions.Dispose();
        _slot.Dispose();
        _length.Dispose();
        _draws.Dispose();
        _chosen.Dispose();
        _logits?.Dispose();
        foreach (StagedTensor starts in _keyStarts.Values)
        {
            starts.Dispose();
        }
    }

    private void Work()
    {
        using Variable hidden = _model.Hidden(_tape, _context, _ids.Tensor);
        using Variable logits = _model.Logits(_tape, _context, hidden);
        if (_logits is null)
        {
            Sampling.SelectRows(logits.Value, _chosen.Tensor, in _sampling, null, null, _draws.Tensor);
        }
        else
        {
            Cast.Run(logits.Value, _logits.Tensor);
        }
    }
}

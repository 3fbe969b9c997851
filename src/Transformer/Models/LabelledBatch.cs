using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// A batch of tokens with labels in device memory, filled anew for each step of the same extents: what a recorded training
/// step reads. Nothing is allocated after the constructor.
/// </summary>
public sealed class LabelledBatch : IDisposable
{
    // Row of a place in the label list that no label takes, and place of a row without a label.
    private const int NoRow = -1;

    private readonly StagedTensor _ids;
    private readonly StagedTensor _positions;
    private readonly StagedTensor _rows;
    private readonly StagedTensor _places;
    private readonly StagedTensor _targets;
    private readonly StagedTensor _scale;
    private readonly StagedTensor _step;
    private readonly StagedTensor _losses;
    private readonly StagedTensor? _adapters;
    private readonly Dictionary<int, StagedTensor> _keyStarts = [];
    private readonly DecoderModel _model;

    /// <summary>Makes room.</summary>
    /// <param name="model">Whose windows and vocabulary count.</param>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="length">Tokens in each row.</param>
    /// <param name="labels">The most labels there will be.</param>
    /// <param name="dropoutSeed">Seed of dropout.</param>
    /// <param name="checkpoint">Recompute activations block by block.</param>
    /// <param name="mixed">Each row has an adapter of its own.</param>
    public LabelledBatch(
        DecoderModel model, int rows, int length, int labels, ulong dropoutSeed = 0, bool checkpoint = false, bool mixed = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        Device device = model.Device;
        DType single = model.DType == DType.F64 ? DType.F64 : DType.F32;
        (Rows, Length, Labels) = (rows, length, labels);
        _ids = new StagedTensor([checked(rows * length)], DType.I32, device);
        _positions = new StagedTensor([rows, length], DType.I32, device);
        _rows = new StagedTensor([labels], DType.I32, device);
        _places = new StagedTensor([checked(rows * length)], DType.I32, device);
        _targets = new StagedTensor([labels], DType.I32, device);
        _scale = new StagedTensor([1], single, device);
        _step = new StagedTensor([1], DType.I64, device);
        _losses = new StagedTensor([labels], single, device);
        foreach (int window in model.Windows)
        {
            _keyStarts.Add(window, new StagedTensor([rows, length], DType.I32, device));
        }

        _adapters = mixed ? new StagedTensor([rows], DType.I32, device) : null;

        Context = new BatchContext(
            rows, length, Math.Min(length, model.Config.MaxPositions), _positions.Tensor, _keyStarts.Select(k => KeyValuePair.Create(k.Key, k.Value.Tensor)))
        {
            Training = true,
            DropoutSeed = dropoutSeed,
            DropoutStepTensor = _step.Tensor,
            CheckpointBlocks = checkpoint,
            Adapters = _adapters is null ? null : new AdapterRows(_adapters.Tensor),
        };
    }

    /// <summary>Rows.</summary>
    public int Rows { get; }

    /// <summary>Tokens in each row.</summary>
    public int Length { get; }

    /// <summary>Room for labels.</summary>
    public int Labels { get; }

    /// <summary>Labels of the present filling.</summary>
    public int LabelCount { get; private set; }

    /// <summary>The batch without its tokens.</summary>
    public BatchContext Context { get; }

    /// <summary>Token ids I32 [Rows·Length].</summary>
    public Tensor Ids => _ids.Tensor;

    /// <summary>For each label the row of the hidden states it is scored against, I32 [Labels]; −1 for none.</summary>
    public Tensor LabelRows => _rows.Tensor;

    /// <summary>The other way round: each state's place among <see cref="LabelRows"/>, I32 [Rows·Length]; −1 for one without a label.</summary>
    public Tensor LabelPlaces => _places.Tensor;

    /// <summary>The labels, I32 [Labels]; −100 for none.</summary>
    public Tensor Targets => _targets.Tensor;

    /// <summary>Factor on the sum of losses [1].</summary>
    public Tensor GradScale => _scale.Tensor;

    /// <summary>Each label's loss [Labels], written by the step.</summary>
    public Tensor Losses => _losses.Tensor;

    /// <summary>
    /// Fills the batch and queues its way to the device. The host's side must be idle: the device has been waited for since
    /// the last filling.
    /// </summary>
    /// <param name="ids">Token ids, rows of <paramref name="length"/> tokens.</param>
    /// <param name="segmentStarts">For each token the index at which its segment begins.</param>
    /// <param name="labels">Labels aligned with tokens; −100 for none.</param>
    /// <param name="length">Tokens in each row, at most <see cref="Length"/>; the rest is padding that nothing sees.</param>
    /// <param name="gradScale">Factor on the sum of losses.</param>
    /// <param name="dropoutStep">Number of the micro-batch.</param>
    /// <param name="rowAdapters">As in <see cref="BatchContext.RowAdapters"/>; empty when the batch was not made mixed.</param>
    /// <exception cref="EngineDataException">An id, a label or a position is out of range.</exception>
    public void Fill(
        ReadOnlySpan<int> ids,
        ReadOnlySpan<int> segmentStarts,
        ReadOnlySpan<int> labels,
        int length,
        float gradScale,
        long dropoutStep,
        ReadOnlySpan<int> rowAdapters = default)
    {
        _model.CheckIds(ids);
        if (_adapters is not null)
        {
            rowAdapters.CopyTo(_adapters.Host<int>());
            _adapters.Upload();
            Context.Adapters!.Update();
        }

        Span<int> hostIds = _ids.Host<int>();
        Span<int> positions = _positions.Host<int>();
        foreach ((int window, StagedTensor starts) in _keyStarts)
        {
            Span<int> host = starts.Host<int>();
            for (int row = 0; row < Rows; row++)
            {
                Span<int> to = host.Slice(row * Length, Length);
                segmentStarts.Slice(row * length, length).CopyTo(to);
                to[length..].Fill(length);
            }

            BatchContext.ApplyWindow(host, Length, 0, window);
            starts.Upload();
        }

        for (int row = 0; row < Rows; row++)
        {
            Span<int> to = hostIds.Slice(row * Length, Length);
            ids.Slice(row * length, length).CopyTo(to);
            to[length..].Clear();
            for (int i = 0; i < Length; i++)
            {
                int position = i - (i < length ? segmentStarts[(row * length) + i] : length);
                if (position >= _model.Config.MaxPositions)
                {
                    // Padding has a place of its own; anything else would read behind the tables.
                    position = i < length ? throw TooLong(position) : 0;
                }

                positions[(row * Length) + i] = position;
            }
        }

        FillLabels(labels, length);
        SetSingle(gradScale);
        _step.Host<long>()[0] = dropoutStep;
        _ids.Upload();
        _positions.Upload();
        _rows.Upload();
        _places.Upload();
        _targets.Upload();
        _scale.Upload();
        _step.Upload();
    }

    /// <summary>Queues the losses' way to the host.</summary>
    public void DownloadLosses() => _losses.Download();

    /// <summary>The losses' sum in double precision, in batch order; the device has been waited for since <see cref="DownloadLosses"/>.</summary>
    public double SumLosses()
    {
        double sum = 0;
        for (int i = 0; i < LabelCount; i++)
        {
            sum += LossAt(i);
        }

        return sum;
    }

    /// <summary>Each label's loss; the device has been waited for since <see cref="DownloadLosses"/>.</summary>
    public double[] LossArray()
    {
        var losses = new double[LabelCount];
        for (int i = 0; i < losses.Length; i++)
        {
            losses[i] = LossAt(i);
        }

        return losses;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Context.Dispose();
        _ids.Dispose();
        _positions.Dispose();
        _rows.Dispose();
        _places.Dispose();
        _targets.Dispose();
        _scale.Dispose();
        _step.Dispose();
        _losses.Dispose();
        _adapters?.Dispose();
        foreach (StagedTensor starts in _keyStarts.Values)
        {
            starts.Dispose();
        }
    }

    private double LossAt(int index) =>
        _losses.Tensor.DType == DType.F64 ? _losses.Host<double>()[index] : _losses.Host<float>()[index];

    private void SetSingle(float value)
    {
        if (_scale.Tensor.DType == DType.F64)
        {
            _scale.Host<double>()[0] = value;
        }
        else
        {
            _scale.Host<float>()[0] = value;
        }
    }

    private EngineDataException TooLong(int position) => new(
        $"a sequence of {position + 1} tokens is longer than the model: max_position_embeddings is {_model.Config.MaxPositions}");

    // Label i of a row is what the state at i − 1 is scored against.
    private void FillLabels(ReadOnlySpan<int> labels, int length)
    {
        Span<int> rows = _rows.Host<int>();
        Span<int> places = _places.Host<int>();
        Span<int> targets = _targets.Host<int>();
        places.Fill(NoRow);
        int next = 0;
        for (int i = 0; i < labels.Length; i++)
        {
            int column = i % length;
            if (column == 0 || labels[i] == DecoderModel.IgnoreLabel)
            {
                continue;
            }

            if ((uint)labels[i] >= (uint)_model.Config.VocabularySize)
            {
                throw new EngineDataException(
                    $"label {labels[i]} at index {i} is out of range: the model's vocabulary has {_model.Config.VocabularySize} entries; {DecoderModel.IgnoreLabel} marks a token without a label");
            }

            rows[next] = (i / length * Length) + column - 1;
            places[rows[next]] = next;
            targets[next++] = labels[i];
        }

        LabelCount = next;
        rows[next..].Fill(NoRow);
        targets[next..].Fill(DecoderModel.IgnoreLabel);
    }
}

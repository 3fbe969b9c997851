using Engine.Autograd;
using Engine.Kernels;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>What one optimizer step did.</summary>
/// <param name="Loss">Mean over the step's labelled tokens.</param>
/// <param name="GradientNorm">Global norm before clipping.</param>
/// <param name="Tokens">Tokens read, padding not counted.</param>
/// <param name="LabelledTokens">Tokens that counted in the loss.</param>
public readonly record struct StepResult(double Loss, double GradientNorm, long Tokens, long LabelledTokens);

/// <summary>
/// One optimizer step over one or more micro-batches: forward, backward, clipping, update. The loss is the mean over all
/// labelled tokens of the step, so how a step is cut into micro-batches does not change what it computes. Where the device
/// can record work, micro-batches of the same extents and the update are replayed from their third time on; nothing is then
/// allocated, and the host waits once for each micro-batch.
/// </summary>
/// <remarks>The model's parameters must stay where they are while a step exists: see <see cref="Variable.Replace"/>.</remarks>
public sealed class TrainingStep : IDisposable
{
    // Filled batches are kept for as many extents; a recording lives as long as its batch.
    private const int KeptBatches = 32;

    private readonly AdaptedModel _model;
    private readonly AdamWOptimizer _optimizer;
    private readonly StepGraphs<Extents> _microSteps;
    private readonly StepGraphs<int> _updates;
    private readonly Dictionary<Extents, LabelledBatch> _batches = [];
    private readonly Queue<Extents> _order = new();
    private readonly Tensor _loss;
    private readonly Action<LabelledBatch> _microStep;
    private readonly Action<int> _update;

    /// <summary>Trains the given parameters of a model.</summary>
    public TrainingStep(AdaptedModel model, IReadOnlyList<Variable> trained, AdamWOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        Device device = model.Base.Device;
        _optimizer = new AdamWOptimizer(trained, options);
        _optimizer.BindGradients();
        _microSteps = new StepGraphs<Extents>(device, KeptBatches);
        _updates = new StepGraphs<int>(device, 1);
        _loss = Tensor.Zeros([1], model.Base.DType == DType.F64 ? DType.F64 : DType.F32, device);
        _microStep = MicroStep;
        _update = _ => _optimizer.Run(_loss);
    }

    /// <summary>The optimizer, for its state.</summary>
    public AdamWOptimizer Optimizer => _optimizer;

    /// <summary>Seed of LoRA's dropout.</summary>
    public ulong DropoutSeed { get; init; }

    /// <summary>Norm above which gradients are scaled down; null for no clipping.</summary>
    public double? Clip { get; init; }

    /// <summary>Recompute activations block by block in backward.</summary>
    public bool GradientCheckpointing { get; init; }

    /// <summary>Micro-batches that were replayed from a recording so far.</summary>
    public long Replays => _microSteps.Replays;

    /// <summary>Runs one step.</summary>
    /// <param name="microBatches">The step's batches; gradients accumulate over them.</param>
    /// <param name="learningRate">This step's rate.</param>
    /// <exception cref="EngineDataException">The loss is not finite; nothing has been updated.</exception>
    public StepResult Run(IReadOnlyList<Batch> microBatches, double learningRate)
    {
        ArgumentNullException.ThrowIfNull(microBatches);
        Device device = _model.Base.Device;
        long labelled = 0;
        long tokens = 0;
        for (int i = 0; i < microBatches.Count; i++)
        {
            labelled += DecoderModel.CountLabels(microBatches[i].Length, microBatches[i].Labels);
            tokens += microBatches[i].TokenCount;
        }

        if (labelled == 0)
        {
            throw new EngineDataException(
                $"step {_optimizer.Steps + 1} has no labelled token: every row's completion was empty or cut off; check max-length and the data");
        }

        double sum;
        LabelledBatch last;
        try
        {
            (sum, last) = AccumulateAll(microBatches, labelled);
        }
        catch (Exception error) when (error is not DeviceException)
        {
            // Half a step's gradients must not enter another attempt's.
            _optimizer.ClearGradients();
            throw;
        }

        _optimizer.Prepare(learningRate, Clip);
        _updates.Run(0, 0, _update);
        _optimizer.DownloadNorm();
        device.Synchronize();
        sum += last.SumLosses();
        double loss = sum / labelled;
        double norm = _optimizer.Norm;
        if (!double.IsFinite(loss) || !double.IsFinite(norm))
        {
            _optimizer.Withdraw();
            throw new EngineDataException(
                $"step {_optimizer.Steps + 1}: the loss is {loss} and the gradient norm {norm}; a lower --lr or --clip 1 usually helps");
        }

        return new StepResult(loss, norm, tokens, labelled);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _microSteps.Dispose();
        _updates.Dispose();
        _optimizer.Dispose();
        foreach (LabelledBatch batch in _batches.Values)
        {
            batch.Dispose();
        }

        _batches.Clear();
        _loss.Dispose();
    }

    /// <summary>A context over a batch: positions restart and keys begin at each segment.</summary>
    public static BatchContext ContextOf(
        Batch batch, Device device, bool training = false, ulong seed = 0, long step = 0, bool checkpoint = false)
    {
        ArgumentNullException.ThrowIfNull(batch);
        int[] positions = BatchContext.DensePositions(batch.Rows, batch.Length);
        for (int i = 0; i < positions.Length; i++)
        {
            positions[i] -= batch.SegmentStarts[i];
        }

        return new BatchContext(device, batch.Rows, batch.Length, positions, batch.SegmentStarts)
        {
            Training = training,
            DropoutSeed = seed,
            DropoutStep = step,
            CheckpointBlocks = checkpoint,
            RowAdapters = batch.RowAdapters,
        };
    }

    // Forward and backward of all micro-batches; the sum of the losses is without the last one's, which is on its way.
    private (double Sum, LabelledBatch Last) AccumulateAll(IReadOnlyList<Batch> microBatches, long labelled)
    {
        _loss.Clear();
        double sum = 0;
        LabelledBatch? last = null;
        for (int i = 0; i < microBatches.Count; i++)
        {
            if (DecoderModel.CountLabels(microBatches[i].Length, microBatches[i].Labels) == 0)
            {
                // Nothing to learn, and no gradient.
                continue;
            }

            if (last is not null)
            {
                _model.Base.Device.Synchronize();
                sum += last.SumLosses();
            }

            last = Accumulate(microBatches[i], 1f / labelled, ((long)_optimizer.Steps << 16) + i);
        }

        return (sum, last!);
    }

    private LabelledBatch Accumulate(Batch batch, float gradScale, long microStep)
    {
        int[] adapters = [];
        if (batch.RowAdapters is { } rows)
        {
            _model.RequireRowAdapters(rows, batch.Rows);
            adapters = [.. rows];
        }

        LabelledBatch inputs = InputsOf(batch, out Extents extents);
        inputs.Fill(batch.Tokens, batch.SegmentStarts, batch.Labels, batch.Length, gradScale, microStep, adapters);
        _microSteps.Run(extents, inputs, _microStep);
        inputs.DownloadLosses();
        return inputs;
    }

    private void MicroStep(LabelledBatch inputs)
    {
        using var tape = new Tape();
        using Variable loss = _model.Base.Loss(tape, inputs);
        Elementwise.AddScaled(_loss, loss.Value, 1);
        tape.Backward(loss);
    }

    // Extents are rounded up on devices that record, so that a recording serves batches of similar lengths.
    private LabelledBatch InputsOf(Batch batch, out Extents extents)
    {
        int unit = _model.Base.Device.ShapeGranularity;
        int length = RoundUp(batch.Length, unit);
        int labels = DecoderModel.CountLabels(batch.Length, batch.Labels);
        int room = unit == 1 ? labels : Math.Min(RoundUp(labels, Math.Max(unit, RoundUp(batch.Rows * length / 8, unit))), batch.Rows * length);
        extents = new Extents(batch.Rows, length, room, batch.RowAdapters is not null);
        if (!_batches.TryGetValue(extents, out LabelledBatch? inputs))
        {
            if (_batches.Count >= KeptBatches && _order.TryDequeue(out Extents gone) && _batches.Remove(gone, out LabelledBatch? oldest))
            {
                // A recording refers to its memory.
                _model.Base.Device.Synchronize();
                _microSteps.Forget(gone);
                oldest.Dispose();
            }

            inputs = new LabelledBatch(_model.Base, batch.Rows, length, room, DropoutSeed, GradientCheckpointing, extents.Mixed);
            _batches.Add(extents, inputs);
            _order.Enqueue(extents);
        }

        return inputs;
    }

    private static int RoundUp(int value, int unit) => (value + unit - 1) / unit * unit;

    private readonly record struct Extents(int Rows, int Length, int Labels, bool Mixed);
}

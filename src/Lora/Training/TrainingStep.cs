using Engine.Autograd;
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
/// labelled tokens of the step, so how a step is cut into micro-batches does not change what it computes.
/// </summary>
public sealed class TrainingStep : IDisposable
{
    private readonly AdaptedModel _model;
    private readonly AdamWOptimizer _optimizer;

    /// <summary>Trains the given parameters of a model.</summary>
    public TrainingStep(AdaptedModel model, IReadOnlyList<Variable> trained, AdamWOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        _optimizer = new AdamWOptimizer(trained, options);
    }

    /// <summary>The optimizer, for its state.</summary>
    public AdamWOptimizer Optimizer => _optimizer;

    /// <summary>Seed of LoRA's dropout.</summary>
    public ulong DropoutSeed { get; init; }

    /// <summary>Norm above which gradients are scaled down; null for no clipping.</summary>
    public double? Clip { get; init; }

    /// <summary>Recompute activations block by block in backward.</summary>
    public bool GradientCheckpointing { get; init; }

    /// <summary>Runs one step.</summary>
    /// <param name="microBatches">The step's batches; gradients accumulate over them.</param>
    /// <param name="learningRate">This step's rate.</param>
    /// <exception cref="EngineDataException">The loss is not finite; nothing has been updated.</exception>
    public StepResult Run(IReadOnlyList<Batch> microBatches, double learningRate)
    {
        ArgumentNullException.ThrowIfNull(microBatches);
        long labelled = microBatches.Sum(b => (long)DecoderModel.CountLabels(b.Length, b.Labels));
        if (labelled == 0)
        {
            throw new EngineDataException(
                $"step {_optimizer.Steps + 1} has no labelled token: every row's completion was empty or cut off; check max-length and the data");
        }

        double sum = 0;
        for (int i = 0; i < microBatches.Count; i++)
        {
            sum += Accumulate(microBatches[i], 1f / labelled, ((long)_optimizer.Steps << 16) + i);
        }

        double loss = sum / labelled;
        double norm = _optimizer.GradientNorm();
        if (!double.IsFinite(loss) || !double.IsFinite(norm))
        {
            throw new EngineDataException(
                $"step {_optimizer.Steps + 1}: the loss is {loss} and the gradient norm {norm}; a lower --lr or --clip 1 usually helps");
        }

        _optimizer.Step(learningRate, AdamWOptimizer.ClipCoefficient(norm, Clip));
        return new StepResult(loss, norm, microBatches.Sum(b => (long)b.TokenCount), labelled);
    }

    /// <inheritdoc/>
    public void Dispose() => _optimizer.Dispose();

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
        };
    }

    private double Accumulate(Batch batch, float gradScale, long microStep)
    {
        using BatchContext context = ContextOf(batch, _model.Base.Device, training: true, DropoutSeed, microStep, GradientCheckpointing);
        using var tape = new Tape();
        using BatchLoss loss = _model.Base.Loss(tape, context, batch.Tokens, batch.Labels, gradScale);
        if (loss.Count > 0)
        {
            Tensor one = loss.Value.Value.EmptyLike();
            Ones(one);
            tape.Backward(loss.Value, one);
        }

        return loss.Sum;
    }

    private static void Ones(Tensor tensor)
    {
        if (tensor.DType == DType.F64)
        {
            tensor.CopyFrom<double>([1]);
        }
        else
        {
            tensor.CopyFrom<float>([1]);
        }
    }
}

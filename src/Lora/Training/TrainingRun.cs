using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>One line of metrics: what a step did, and how fast.</summary>
/// <param name="Step">Counted from 1.</param>
/// <param name="TotalSteps">Steps of the whole run.</param>
/// <param name="Loss">Mean over the step's labelled tokens.</param>
/// <param name="GradientNorm">Global norm before clipping.</param>
/// <param name="LearningRate">The rate of this step.</param>
/// <param name="Tokens">Tokens the step read.</param>
/// <param name="TokensPerSecond">Tokens over the step's wall time.</param>
/// <param name="FlopsPerSecond">What the model asks for (<see cref="ModelFlops"/>) over that time.</param>
public readonly record struct TrainingMetrics(
    int Step, int TotalSteps, double Loss, double GradientNorm, double LearningRate, long Tokens, double TokensPerSecond, double FlopsPerSecond);

/// <summary>What a run reports to while it goes on.</summary>
public interface ITrainingObserver
{
    /// <summary>A step is done.</summary>
    void OnStep(TrainingMetrics metrics);

    /// <summary>An evaluation is done.</summary>
    void OnEvaluation(int step, EvaluationResult result, bool isBest);

    /// <summary>A checkpoint has been written.</summary>
    void OnCheckpoint(int step, string directory);
}

/// <summary>Why a run ended.</summary>
public enum TrainingEnd
{
    /// <summary>All steps are done.</summary>
    Completed,

    /// <summary>The evaluation loss stopped falling.</summary>
    StoppedEarly,

    /// <summary>The caller asked it to stop; a checkpoint was written.</summary>
    Cancelled,
}

/// <summary>The outcome of a run.</summary>
/// <param name="End">Why it ended.</param>
/// <param name="Steps">Optimizer steps made in all.</param>
/// <param name="FirstLoss">Loss of the first step of this process.</param>
/// <param name="LastLoss">Loss of the last step.</param>
public sealed record TrainingOutcome(TrainingEnd End, int Steps, double FirstLoss, double LastLoss);

/// <summary>
/// A training run: walks the data in its planned order, steps the optimizer, evaluates, checkpoints, resumes. The data
/// order and every random number are functions of the seed and the step, so that a run resumed at step n continues with
/// the bits of one that was never interrupted.
/// </summary>
public sealed class TrainingRun : IDisposable
{
    private readonly AdaptedModel _model;
    private readonly TrainingOptions _options;
    private readonly IReadOnlyList<Example> _examples;
    private readonly BatchPlan _plan;
    private readonly TrainingStep _step;
    private readonly LearningRateSchedule _schedule;
    private readonly ModelFlops _flops;
    private readonly int _padId;

    /// <summary>Prepares a run.</summary>
    /// <param name="model">The model, its trained adapter active.</param>
    /// <param name="trained">What gradients flow to, in a fixed order.</param>
    /// <param name="options">The run's options; paths are not used here.</param>
    /// <param name="examples">Tokenised rows, packed if wanted.</param>
    /// <param name="padId">Id that pads short rows.</param>
    public TrainingRun(
        AdaptedModel model, IReadOnlyList<Variable> trained, TrainingOptions options, IReadOnlyList<Example> examples, int padId = 0)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(examples);
        _model = model;
        _options = options;
        _examples = examples;
        _padId = padId;
        _plan = new BatchPlan(examples.Count, options.BatchSize, (ulong)options.Seed, options.Shuffle);
        TotalSteps = options.Steps ?? StepsOf(options.Epochs ?? 1, _plan.BatchesPerEpoch, options.Accumulate);
        if (options.Schedule != ScheduleKind.Constant && options.Warmup >= TotalSteps)
        {
            throw new EngineDataException($"option \"warmup\" is {options.Warmup}; expected fewer than the {TotalSteps} steps of the run");
        }

        _schedule = options.ToSchedule(TotalSteps);
        Trained = trained;
        _flops = ModelFlops.OfTraining(model);
        _step = new TrainingStep(
            model, trained, new AdamWOptions(options.Beta1, options.Beta2, options.Epsilon, options.WeightDecay))
        {
            DropoutSeed = (ulong)options.Seed,
            Clip = options.Clip,
            GradientCheckpointing = options.GradientCheckpointing,
        };
    }

    /// <summary>What is trained.</summary>
    public IReadOnlyList<Variable> Trained { get; }

    /// <summary>Steps of the whole run.</summary>
    public int TotalSteps { get; }

    /// <summary>Steps done so far.</summary>
    public int StepsDone => _step.Optimizer.Steps;

    /// <summary>The optimizer, for its state.</summary>
    public AdamWOptimizer Optimizer => _step.Optimizer;

    /// <summary>Lowest evaluation loss so far and the evaluations since; part of a checkpoint.</summary>
    public EarlyStopping EarlyStopping { get; set; } = new();

    /// <summary>Steps between evaluations; one epoch by default.</summary>
    public int EvaluationInterval =>
        _options.EvalEvery ?? Math.Max(1, (_plan.BatchesPerEpoch + _options.Accumulate - 1) / _options.Accumulate);

    /// <summary>Runs until the end, a stop or a cancellation (which finishes the step it is in).</summary>
    /// <param name="observer">Is told of every step.</param>
    /// <param name="evaluate">Evaluates the model as it is, or null for no evaluation.</param>
    /// <param name="checkpoint">Writes a checkpoint and returns its directory, or null for none.</param>
    /// <param name="cancellation">Asks the run to stop after the present step.</param>
    /// <exception cref="EngineDataException">
    /// The loss is not finite, a checkpoint cannot be written, or a step does not fit the device's memory; the message then
    /// says which batch would, and nothing has been updated: another run with the same model can follow.
    /// </exception>
    public TrainingOutcome Run(
        ITrainingObserver? observer,
        Func<EvaluationResult>? evaluate,
        Func<int, string>? checkpoint,
        CancellationToken cancellation)
    {
        double first = double.NaN;
        double last = double.NaN;
        if (_options.Patience is { } patience && EarlyStopping.SinceBest >= patience)
        {
            // Resumed from the checkpoint of the very step at which the run stopped.
            return new TrainingOutcome(TrainingEnd.StoppedEarly, StepsDone, first, last);
        }

        int savedAt = StepsDone;
        var clock = System.Diagnostics.Stopwatch.StartNew();
        while (StepsDone < TotalSteps && !cancellation.IsCancellationRequested)
        {
            long begin = clock.ElapsedTicks;
            double rate = _schedule.At(StepsDone);
            Batch[] batches = NextBatches();
            StepResult result = Step(batches, rate);
            double seconds = (double)(clock.ElapsedTicks - begin) / System.Diagnostics.Stopwatch.Frequency;
            first = double.IsNaN(first) ? result.Loss : first;
            last = result.Loss;
            observer?.OnStep(new TrainingMetrics(
                StepsDone, TotalSteps, result.Loss, result.GradientNorm, rate, result.Tokens, result.Tokens / seconds, _flops.Of(batches) / seconds));
            bool stop = evaluate is not null && IsEvaluationDue() && Evaluate(evaluate, observer);
            if (checkpoint is not null && _options.CheckpointEvery is { } every && StepsDone % every == 0 && StepsDone < TotalSteps)
            {
                observer?.OnCheckpoint(StepsDone, checkpoint(StepsDone));
                savedAt = StepsDone;
            }

            if (stop)
            {
                return new TrainingOutcome(TrainingEnd.StoppedEarly, StepsDone, first, last);
            }
        }

        if (StepsDone >= TotalSteps)
        {
            return new TrainingOutcome(TrainingEnd.Completed, StepsDone, first, last);
        }

        if (checkpoint is not null && StepsDone > savedAt)
        {
            observer?.OnCheckpoint(StepsDone, checkpoint(StepsDone));
        }

        return new TrainingOutcome(TrainingEnd.Cancelled, StepsDone, first, last);
    }

    /// <summary>How much memory the run takes with batches of so many rows.</summary>
    /// <param name="batchSize">Rows in one forward pass.</param>
    /// <param name="checkpointing">Whether blocks are computed again in the backward pass.</param>
    public MemoryEstimate EstimateMemory(int batchSize, bool checkpointing)
    {
        long tokens = (long)Math.Min(batchSize, _examples.Count) * _examples.Max(e => e.Length);
        return MemoryEstimate.Of(_model.Base, Trained, Optimizer.StateBytes, tokens, checkpointing);
    }

    /// <inheritdoc/>
    public void Dispose() => _step.Dispose();

    private static int StepsOf(int epochs, int batchesPerEpoch, int accumulate) =>
        checked((int)((((long)epochs * batchesPerEpoch) + accumulate - 1) / accumulate));

    private StepResult Step(Batch[] batches, double rate)
    {
        try
        {
            return _step.Run(batches, rate);
        }
        catch (DeviceOutOfMemoryException error)
        {
            var hint = new MemoryHint(
                _options.BatchSize, _options.Accumulate, _options.GradientCheckpointing, (rows, again) => EstimateMemory(rows, again).Total);
            throw new EngineDataException(
                $"step {StepsDone + 1} does not fit into {_model.Base.Device.Name}: {error.Requested >> 20:N0} MiB more were asked for, " +
                $"{error.Free >> 20:N0} of {error.Total >> 20:N0} MiB are free and {error.Live >> 20:N0} MiB in use by tensors. {hint.For(error.Free + error.Live)}",
                error);
        }
    }

    private bool IsEvaluationDue() => StepsDone % EvaluationInterval == 0 || StepsDone == TotalSteps;

    private bool Evaluate(Func<EvaluationResult> evaluate, ITrainingObserver? observer)
    {
        EvaluationResult result = evaluate();
        EarlyStopping = EarlyStopping.After(result.Loss);
        observer?.OnEvaluation(StepsDone, result, EarlyStopping.SinceBest == 0);
        return _options.Patience is { } patience && EarlyStopping.SinceBest >= patience;
    }

    private Batch[] NextBatches()
    {
        // A run of whole epochs ends with its last row: the last step may have fewer micro-batches.
        long begun = (long)StepsDone * _options.Accumulate;
        long left = _options.Steps is null ? ((long)(_options.Epochs ?? 1) * _plan.BatchesPerEpoch) - begun : _options.Accumulate;
        var batches = new Batch[Math.Min(_options.Accumulate, left)];
        for (int i = 0; i < batches.Length; i++)
        {
            DataPosition position = _plan.PositionOf(begun + i);
            ReadOnlySpan<int> rows = _plan.Rows(position);
            var examples = new Example[rows.Length];
            for (int r = 0; r < rows.Length; r++)
            {
                examples[r] = _examples[rows[r]];
            }

            batches[i] = Batch.Collate(examples, _padId);
        }

        return batches;
    }
}

/// <summary>Watches the evaluation loss.</summary>
/// <param name="Best">Lowest loss so far.</param>
/// <param name="SinceBest">Evaluations since the lowest.</param>
public sealed record EarlyStopping(double Best = double.PositiveInfinity, int SinceBest = 0)
{
    /// <summary>The state after another evaluation.</summary>
    public EarlyStopping After(double loss) => loss < Best ? new EarlyStopping(loss, 0) : this with { SinceBest = SinceBest + 1 };
}

using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Lora;

/// <summary>
/// One fine-tuning from files to files: opens model, tokenizer and data, makes or loads the adapter (or trains every
/// weight), runs, writes checkpoints, goes on from them, and saves the result. What <c>engine train</c> does, without a
/// console.
/// </summary>
public sealed partial class FineTuning : IDisposable
{
    /// <summary>The trained adapter's name on <see cref="Model"/>.</summary>
    public const string AdapterName = "default";

    /// <summary>The file of the effective options beside the result; it can be given as a configuration file again.</summary>
    public const string OptionsFile = "training_options.json";

    private readonly DataLoader _loader;
    private readonly string _base;
    private TrainingInputs? _inputs;

    private FineTuning(TrainingOptions options, AdaptedModel model, DataLoader loader)
    {
        Options = options;
        Model = model;
        _loader = loader;
        _base = options.Model!;
    }

    /// <summary>The options, with what <see cref="Plan"/> chose.</summary>
    public TrainingOptions Options { get; private set; }

    /// <summary>How the run keeps within <see cref="TrainingOptions.MaxMemory"/>, or null where nothing limits it.</summary>
    public MemoryPlan? Plan { get; private set; }

    /// <summary>The model, the trained adapter active.</summary>
    public AdaptedModel Model { get; }

    /// <summary>The trained adapter, or null when every weight is trained.</summary>
    public LoraAdapter? Adapter { get; private set; }

    /// <summary>The model's tokenizer, or null.</summary>
    public Tokenizer? Tokenizer => _loader.Tokenizer;

    /// <summary>The training rows as tokens, packed if that was asked for.</summary>
    public IReadOnlyList<Example> Examples { get; private set; } = [];

    /// <summary>The held-out rows, or null.</summary>
    public IReadOnlyList<EvaluationRow>? EvaluationRows { get; private set; }

    /// <summary>The run.</summary>
    public TrainingRun Run { get; private set; } = null!;

    /// <summary>Losses so far, those before a resumption included.</summary>
    public TrainingHistory History { get; private set; } = new();

    /// <summary>The checkpoint this run goes on from, or null.</summary>
    public string? ResumedFrom { get; private set; }

    /// <summary>Opens everything and checks it; writes nothing.</summary>
    /// <param name="options">What to train; validated here.</param>
    /// <param name="device">Where to train.</param>
    /// <exception cref="EngineDataException">An option, file, row or checkpoint is wrong; the message says which and how.</exception>
    public static FineTuning Open(TrainingOptions options, Device device)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        RequireFreshOutput(options);

        // Data first: a mistake in them shows before the weights are read.
        ModelConfig config = ModelConfig.Load(options.Model!);
        var loader = new DataLoader(config, DataLoader.TokenizerOf(options.Model!), options.MaxLength, options.Truncate);
        IReadOnlyList<Example> rows = loader.Examples(options.Data!);
        IReadOnlyList<Example> examples = options.Pack ? SequencePacker.Pack(rows, loader.MaxLength) : rows;
        IReadOnlyList<EvaluationRow>? heldOut = options.Eval is null ? null : loader.EvaluationRows(options.Eval);
        LoraConfig? adapter = options.Method == TrainingMethod.Lora && options.Adapter is null ? options.ToLoraConfig() : null;
        try
        {
            return Prepared(options, device, loader, examples, heldOut, adapter);
        }
        catch (DeviceOutOfMemoryException error)
        {
            throw new EngineDataException(
                $"the weights and the optimizer's state do not fit into {device.Name}: {error.Requested >> 20:N0} MiB more were asked for, " +
                $"{error.Free >> 20:N0} of {error.Total >> 20:N0} MiB are free; a narrower --dtype or a lower --rank needs less, the batch does not count here",
                error);
        }
    }

    private static FineTuning Prepared(
        TrainingOptions options,
        Device device,
        DataLoader loader,
        IReadOnlyList<Example> examples,
        IReadOnlyList<EvaluationRow>? heldOut,
        LoraConfig? adapter)
    {
        var model = new AdaptedModel(DecoderModel.LoadToCompute(options.Model!, options.DType, device));
        var tuning = new FineTuning(options, model, loader)
        {
            Examples = examples,
            EvaluationRows = heldOut,
        };
        try
        {
            tuning.Prepare(adapter);
            return tuning;
        }
        catch
        {
            tuning.Dispose();
            throw;
        }
    }

    /// <summary>Trains to the end, an early stop or a cancellation, and saves the result unless cancelled.</summary>
    /// <param name="observer">Is told of every step, or null.</param>
    /// <param name="cancellation">
    /// Asks to stop after the present step; a checkpoint is then written instead of the result. An evaluation is given up,
    /// and made again when the run goes on.
    /// </param>
    /// <exception cref="EngineDataException">The place cannot be written, the disk is full, or the loss is not finite.</exception>
    public TrainingOutcome Train(ITrainingObserver? observer = null, CancellationToken cancellation = default)
    {
        RequireWritable();
        TrainingCheckpoint.RemoveUnfinished(Options.Out!);
        var recorder = new Recorder(History, observer);
        TrainingOutcome outcome;
        try
        {
            MakeUpEvaluation(recorder, cancellation);
            outcome = Run.Run(recorder, EvaluationRows is null ? null : () => Evaluate(cancellation), _ => SaveCheckpoint(), cancellation);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            recorder.OnCheckpoint(Run.StepsDone, SaveCheckpoint());
            outcome = recorder.Cancelled(Run.StepsDone);
        }

        if (outcome.End != TrainingEnd.Cancelled)
        {
            Save(Options.Out!);
        }

        return outcome;
    }

    /// <summary>Loss and perplexity on the held-out rows, with the weights as they are.</summary>
    /// <param name="cancellation">Looked at between batches.</param>
    /// <exception cref="InvalidOperationException">There are no held-out rows.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public EvaluationResult Evaluate(CancellationToken cancellation = default) => new Evaluator(Model.Base, Tokenizer).Evaluate(
        EvaluationRows ?? throw new InvalidOperationException("no held-out rows were given"),
        new EvaluationOptions { ExactMatch = false },
        progress: null,
        cancellation);

    /// <summary>Saves the adapter in PEFT's form, or the whole model with its tokenizer's files.</summary>
    /// <remarks>A whole model is stored in the dtype given as an option, else in the one the base is stored in.</remarks>
    /// <exception cref="EngineDataException">The directory cannot be written.</exception>
    public void Save(string directory)
    {
        if (Adapter is not null)
        {
            AdapterFile.Save(Adapter, directory);
        }
        else
        {
            Model.Base.Save(directory, _base, Options.DType ?? Model.Base.Config.StorageDType ?? Model.Base.DType);
        }

        Options.Save(Path.Combine(directory, OptionsFile));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Run?.Dispose();
        Model.Dispose();
    }

    private void Prepare(LoraConfig? config)
    {
        IReadOnlyList<Variable> trained;
        if (Options.Method == TrainingMethod.Full)
        {
            trained = Model.TrainBase();
        }
        else
        {
            Adapter = config is null
                ? AdapterFile.Load(Model, AdapterName, Options.Adapter!)
                : Model.Add(AdapterName, config, (ulong)Options.Seed, Options.PeftConfig ?? "the adapter's options");
            trained = Model.Train(AdapterName);
        }

        Run = new TrainingRun(Model, trained, Options, Examples, PadId());
        if (Options.MaxMemory is { } most)
        {
            Plan = MemoryPlan.Choose(MemoryPlan.ParseSize(most)!.Value, Options, (rows, again) => Run.EstimateMemory(rows, again).Total);
            Options = Plan.Apply(Options);
            Run.Dispose();
            Run = new TrainingRun(Model, trained, Options, Examples, PadId());
        }

        _inputs = TrainingInputs.Of(Examples, Model, Adapter?.Config, Options.Patience is null ? null : EvaluationRows);
        if (Options.Resume && TrainingCheckpoint.Latest(Options.Out!) is { } checkpoint)
        {
            TrainingCheckpoint.RequireResumable(checkpoint, Options);
            _inputs.RequireSame(checkpoint);
            TrainingCheckpoint.Load(checkpoint, Run, Options);
            History = TrainingHistory.Load(Path.Combine(checkpoint, TrainingHistory.FileName));
            ResumedFrom = checkpoint;
        }
    }

    // An interruption during an evaluation leaves a checkpoint without it; whether the run stops early may depend on it.
    private void MakeUpEvaluation(Recorder recorder, CancellationToken cancellation)
    {
        int step = Run.StepsDone;
        bool due = EvaluationRows is not null && step > 0 && (step % Run.EvaluationInterval == 0 || step == Run.TotalSteps);
        if (due && History.Evaluation.All(point => point.Step != step))
        {
            EvaluationResult result = Evaluate(cancellation);
            Run.EarlyStopping = Run.EarlyStopping.After(result.Loss);
            recorder.OnEvaluation(step, result, Run.EarlyStopping.SinceBest == 0);
        }
    }

    // Any id in the vocabulary does: padding is neither attended to nor learned.
    private int PadId() => Model.Base.Config.PadTokenId is { } pad && pad < Model.Base.Config.VocabularySize ? pad : 0;

    private sealed class Recorder(TrainingHistory history, ITrainingObserver? observer) : ITrainingObserver
    {
        private double _first = double.NaN;
        private double _last = double.NaN;

        public TrainingOutcome Cancelled(int steps) => new(TrainingEnd.Cancelled, steps, _first, _last);

        public void OnStep(TrainingMetrics metrics)
        {
            _first = double.IsNaN(_first) ? metrics.Loss : _first;
            _last = metrics.Loss;
            history.Add(metrics.Step, metrics.Loss);
            observer?.OnStep(metrics);
        }

        public void OnEvaluation(int step, EvaluationResult result, bool isBest)
        {
            history.AddEvaluation(step, result.Loss);
            observer?.OnEvaluation(step, result, isBest);
        }

        public void OnCheckpoint(int step, string directory) => observer?.OnCheckpoint(step, directory);
    }
}

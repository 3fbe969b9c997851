using Engine.Tensors;

namespace Engine.Lora;

/// <summary>Which weights are trained.</summary>
public enum TrainingMethod
{
    /// <summary>A LoRA adapter; the base stays as it is.</summary>
    Lora,

    /// <summary>Every weight of the model.</summary>
    Full,
}

/// <summary>
/// What one training run does: the options of <c>engine train</c> under the same names (with <c>_</c> for <c>-</c>) in
/// a JSON configuration file. The optimizer's defaults are those of PyTorch's AdamW; an adapter's are PEFT's.
/// </summary>
public sealed partial record TrainingOptions
{
    /// <summary>Directory of the base model.</summary>
    public string? Model { get; init; }

    /// <summary>JSONL file with the training rows.</summary>
    public string? Data { get; init; }

    /// <summary>Directory that the result is written to.</summary>
    public string? Out { get; init; }

    /// <summary>JSONL file with held-out rows, or null for no evaluation.</summary>
    public string? Eval { get; init; }

    /// <summary>Adapter directory to go on from, with its own configuration, or null for a new adapter.</summary>
    public string? Adapter { get; init; }

    /// <summary>JSONL file for one line of metrics a step, or null.</summary>
    public string? Metrics { get; init; }

    /// <summary>Which weights are trained.</summary>
    public TrainingMethod Method { get; init; }

    /// <summary>Rank of a new adapter; null for 8.</summary>
    public int? Rank { get; init; }

    /// <summary>α of a new adapter; null for 8.</summary>
    public double? Alpha { get; init; }

    /// <summary>Dropout probability of a new adapter; null for 0.</summary>
    public double? Dropout { get; init; }

    /// <summary>Adapted modules of a new adapter; null for the model type's default.</summary>
    public NamesOrPattern? Targets { get; init; }

    /// <summary>File in the form of <c>adapter_config.json</c> that describes a new adapter, or null.</summary>
    public string? PeftConfig { get; init; }

    /// <summary>Peak learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Decoupled weight decay, a multiple of the learning rate.</summary>
    public double WeightDecay { get; init; } = 0.01;

    /// <summary>Decay of the first moment.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Decay of the second moment.</summary>
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Added to the root of the second moment.</summary>
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Largest global gradient norm, or null for no clipping.</summary>
    public double? Clip { get; init; }

    /// <summary>The course of the learning rate after the warm-up.</summary>
    public ScheduleKind Schedule { get; init; }

    /// <summary>Optimizer steps of warm-up.</summary>
    public int Warmup { get; init; }

    /// <summary>Passes over the data; null for one when <see cref="Steps"/> is null too.</summary>
    public int? Epochs { get; init; }

    /// <summary>Optimizer steps, or null to count in epochs.</summary>
    public int? Steps { get; init; }

    /// <summary>Rows in one forward pass.</summary>
    public int BatchSize { get; init; } = 8;

    /// <summary>Forward passes whose gradients make one step.</summary>
    public int Accumulate { get; init; } = 1;

    /// <summary>Longest row in tokens, or null for the model's own limit.</summary>
    public int? MaxLength { get; init; }

    /// <summary>Whether a row longer than <see cref="MaxLength"/> is cut; if not, it is an error.</summary>
    public bool Truncate { get; init; }

    /// <summary>Whether short rows share one sequence.</summary>
    public bool Pack { get; init; }

    /// <summary>Seed of initialisation, order and dropout.</summary>
    public long Seed { get; init; }

    /// <summary>Whether rows are taken in a new random order each epoch.</summary>
    public bool Shuffle { get; init; } = true;

    /// <summary>Steps between checkpoints, or null for none.</summary>
    public int? CheckpointEvery { get; init; }

    /// <summary>Whether to go on from the last checkpoint in <see cref="Out"/>.</summary>
    public bool Resume { get; init; }

    /// <summary>Whether blocks are computed again in the backward pass instead of kept.</summary>
    public bool GradientCheckpointing { get; init; }

    /// <summary>
    /// Memory that the run may take, such as <c>20GiB</c>, or null for what the device has. <see cref="BatchSize"/> then becomes the
    /// largest divisor of a step's rows that fits, <see cref="Accumulate"/> goes with it, and blocks are checkpointed when not even
    /// one row fits otherwise; see <see cref="MemoryPlan"/>.
    /// </summary>
    public string? MaxMemory { get; init; }

    /// <summary>
    /// Element type of the base's weights while training (f32, bf16, f16). Null for f32, and on a device that prefers narrow
    /// types for the checkpoint's own when that is bf16 or f16.
    /// </summary>
    public DType? DType { get; init; }

    /// <summary>Steps between evaluations, or null for one at the end of each epoch.</summary>
    public int? EvalEvery { get; init; }

    /// <summary>Evaluations without a lower loss after which training stops, or null to go on.</summary>
    public int? Patience { get; init; }

    /// <summary>The learning rate's course over <paramref name="totalSteps"/> optimizer steps.</summary>
    public LearningRateSchedule ToSchedule(int totalSteps) => new(Schedule, LearningRate, Warmup, totalSteps);

    /// <summary>
    /// The same run with another length: the one given replaces both, so that an option overrides a configuration file
    /// that counts the other way.
    /// </summary>
    public TrainingOptions WithLength(int? epochs, int? steps) =>
        epochs is null && steps is null ? this : this with { Epochs = epochs, Steps = steps };

    /// <summary>
    /// The configuration of a new adapter: the file of <see cref="PeftConfig"/>, or PEFT's defaults with
    /// <see cref="Rank"/>, <see cref="Alpha"/>, <see cref="Dropout"/> and <see cref="Targets"/>.
    /// </summary>
    /// <exception cref="EngineDataException">The file cannot be read or holds something that is not supported.</exception>
    public LoraConfig ToLoraConfig()
    {
        if (PeftConfig is not null)
        {
            return LoraConfig.Load(PeftConfig);
        }

        var defaults = new LoraConfig { TaskType = "CAUSAL_LM" };
        return defaults with
        {
            BaseModelNameOrPath = Model,
            Rank = Rank ?? defaults.Rank,
            Alpha = Alpha ?? defaults.Alpha,
            Dropout = Dropout ?? defaults.Dropout,
            TargetModules = Targets,
        };
    }
}

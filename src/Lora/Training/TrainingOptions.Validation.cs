using System.Globalization;
using Engine.Tensors;

namespace Engine.Lora;

public sealed partial record TrainingOptions
{
    /// <summary>Checks every value and the rules between options.</summary>
    /// <exception cref="EngineDataException">An option is missing, out of range, or excludes another.</exception>
    public void Validate()
    {
        Given(Model, "model");
        Given(Data, "data");
        Given(Out, "out");
        AtLeast(Rank, 1, "rank");
        Check(Alpha is null || (double.IsFinite(Alpha.Value) && Alpha > 0), "alpha", Alpha, "a number above 0");
        Check(Dropout is null or (>= 0 and < 1), "dropout", Dropout, "a probability in [0, 1)");
        Check(double.IsFinite(LearningRate) && LearningRate >= 0, "lr", LearningRate, "a number of at least 0");
        Check(double.IsFinite(WeightDecay) && WeightDecay >= 0, "weight_decay", WeightDecay, "a number of at least 0");
        Check(Beta1 is >= 0 and < 1, "beta1", Beta1, "a number in [0, 1)");
        Check(Beta2 is >= 0 and < 1, "beta2", Beta2, "a number in [0, 1)");
        Check(double.IsFinite(Epsilon) && Epsilon >= 0, "eps", Epsilon, "a number of at least 0");
        Check(Clip is null || (double.IsFinite(Clip.Value) && Clip > 0), "clip", Clip, "a norm above 0 (leave it out for no clipping)");
        AtLeast(Warmup, 0, "warmup");
        AtLeast(Epochs, 1, "epochs");
        AtLeast(Steps, 1, "steps");
        AtLeast(BatchSize, 1, "batch_size");
        AtLeast(Accumulate, 1, "accumulate");
        AtLeast(MaxLength, 2, "max_length");
        AtLeast(CheckpointEvery, 1, "checkpoint_every");
        AtLeast(EvalEvery, 1, "eval_every");
        AtLeast(Patience, 1, "patience");
        Check(
            DType is null or Tensors.DType.F32 or Tensors.DType.BF16 or Tensors.DType.F16, "dtype", DType?.Name(),
            "f32, bf16 or f16");
        Check(
            MaxMemory is null || MemoryPlan.ParseSize(MaxMemory) is not null, "max_memory", MaxMemory,
            "a number with a unit, such as 20GiB, 1.5GB or 800MiB");
        ValidateCombinations();
    }

    private void ValidateCombinations()
    {
        Exclude(Epochs is not null && Steps is not null, "epochs", "steps", "a run ends by one of them");
        Exclude(EvalEvery is not null && Eval is null, "eval_every", null, "there is no \"eval\" file to evaluate on");
        Exclude(Patience is not null && Eval is null, "patience", null, "there is no \"eval\" file to watch");
        Check(
            Steps is null || Schedule == ScheduleKind.Constant || Warmup < Steps, "warmup", Warmup,
            $"fewer than the {Steps} steps of the run");
        Exclude(Adapter is not null && PeftConfig is not null, "adapter", "peft_config", "an adapter goes on with its own configuration");
        foreach ((string name, bool given) in ShapeOptions())
        {
            Exclude(given && Adapter is not null, name, "adapter", "an adapter goes on with its own configuration");
            Exclude(given && PeftConfig is not null, name, "peft_config", "the file holds it");
            Exclude(given && Method == TrainingMethod.Full, name, "method", "full training makes no adapter");
        }

        Exclude(Method == TrainingMethod.Full && PeftConfig is not null, "peft_config", "method", "full training makes no adapter");
        Exclude(Method == TrainingMethod.Full && Adapter is not null, "adapter", "method", "full training makes no adapter; merge it first");
    }

    private IEnumerable<(string Name, bool Given)> ShapeOptions() =>
    [
        ("rank", Rank is not null), ("alpha", Alpha is not null), ("dropout", Dropout is not null), ("targets", Targets is not null),
    ];

    private static void Given(string? path, string name)
    {
        if (string.IsNullOrWhiteSpace(path))
        {
            throw new EngineDataException($"option \"{name}\" is missing; expected a path");
        }
    }

    private static void AtLeast(int? value, int least, string name) =>
        Check(value is null || value >= least, name, value, $"an integer of at least {least}");

    private static void Check(bool holds, string name, object? value, string expected)
    {
        if (!holds)
        {
            throw new EngineDataException(
                string.Create(CultureInfo.InvariantCulture, $"option \"{name}\" is {value}; expected {expected}"));
        }
    }

    private static void Exclude(bool clash, string name, string? other, string reason)
    {
        if (clash)
        {
            throw new EngineDataException(
                other is null
                    ? $"option \"{name}\" cannot be used: {reason}"
                    : $"options \"{name}\" and \"{other}\" exclude each other: {reason}");
        }
    }
}

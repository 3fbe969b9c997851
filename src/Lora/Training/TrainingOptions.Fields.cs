using Engine.Tensors;

namespace Engine.Lora;

public sealed partial record TrainingOptions
{
    /// <summary>Every option, in the order in which help and files show them.</summary>
    public static IReadOnlyList<TrainingOption> All { get; } =
    [
        // Paths may move between a run and its continuation; the trainer compares what the files hold.
        TrainingOption.Text("model", "directory of the base model", ResumeRule.Free, o => o.Model, (o, v) => o with { Model = v }),
        TrainingOption.Text("data", "JSONL file with the training rows", ResumeRule.Free, o => o.Data, (o, v) => o with { Data = v }),
        TrainingOption.Text("out", "directory for the result", ResumeRule.Free, o => o.Out, (o, v) => o with { Out = v }),
        TrainingOption.Text("eval", "JSONL file with held-out rows", ResumeRule.Free, o => o.Eval, (o, v) => o with { Eval = v }),
        TrainingOption.Text(
            "adapter", "adapter directory to go on from, with its own configuration", ResumeRule.Free,
            o => o.Adapter, (o, v) => o with { Adapter = v }),
        TrainingOption.Text(
            "metrics", "JSONL file for one line of metrics a step", ResumeRule.Free, o => o.Metrics, (o, v) => o with { Metrics = v }),
        TrainingOption.Choice(
            "method", "what is trained: an adapter or every weight", [("lora", TrainingMethod.Lora), ("full", TrainingMethod.Full)],
            o => o.Method, (o, v) => o with { Method = v }),
        TrainingOption.OptionalInteger(
            "rank", "rank of a new adapter (8)", ResumeRule.Same, o => o.Rank, (o, v) => o with { Rank = v }),
        TrainingOption.OptionalNumber("alpha", "alpha of a new adapter (8)", o => o.Alpha, (o, v) => o with { Alpha = v }),
        TrainingOption.OptionalNumber(
            "dropout", "dropout probability of a new adapter (0)", o => o.Dropout, (o, v) => o with { Dropout = v }),
        TrainingOption.TargetList(
            "targets", "modules to adapt: names, a regular expression or all-linear", o => o.Targets, (o, v) => o with { Targets = v }),
        TrainingOption.Text(
            "peft_config", "file in the form of adapter_config.json that describes a new adapter", ResumeRule.Same,
            o => o.PeftConfig, (o, v) => o with { PeftConfig = v }),
        TrainingOption.Number("lr", "peak learning rate", o => o.LearningRate, (o, v) => o with { LearningRate = v }),
        TrainingOption.Number("weight_decay", "decoupled weight decay", o => o.WeightDecay, (o, v) => o with { WeightDecay = v }),
        TrainingOption.Number("beta1", "decay of the first moment", o => o.Beta1, (o, v) => o with { Beta1 = v }),
        TrainingOption.Number("beta2", "decay of the second moment", o => o.Beta2, (o, v) => o with { Beta2 = v }),
        TrainingOption.Number("eps", "added to the root of the second moment", o => o.Epsilon, (o, v) => o with { Epsilon = v }),
        TrainingOption.OptionalNumber("clip", "largest global gradient norm (no clipping)", o => o.Clip, (o, v) => o with { Clip = v }),
        TrainingOption.Choice(
            "schedule", "course of the learning rate after the warm-up",
            [("constant", ScheduleKind.Constant), ("linear", ScheduleKind.Linear), ("cosine", ScheduleKind.Cosine)],
            o => o.Schedule, (o, v) => o with { Schedule = v }),
        TrainingOption.Integer("warmup", "steps of warm-up", o => o.Warmup, (o, v) => o with { Warmup = v }),
        TrainingOption.OptionalInteger(
            "epochs", "passes over the data (1)", ResumeRule.Same, o => o.Epochs, (o, v) => o with { Epochs = v }),
        TrainingOption.OptionalInteger(
            "steps", "optimizer steps, instead of epochs", ResumeRule.Same, o => o.Steps, (o, v) => o with { Steps = v }),
        TrainingOption.Integer("batch_size", "rows in one forward pass", o => o.BatchSize, (o, v) => o with { BatchSize = v }),
        TrainingOption.Integer(
            "accumulate", "forward passes whose gradients make one step", o => o.Accumulate, (o, v) => o with { Accumulate = v }),
        TrainingOption.OptionalInteger(
            "max_length", "longest row in tokens (the model's limit)", ResumeRule.Same, o => o.MaxLength, (o, v) => o with { MaxLength = v }),
        TrainingOption.Flag(
            "truncate", "cut rows that are longer than max-length instead of refusing them", ResumeRule.Same,
            o => o.Truncate, (o, v) => o with { Truncate = v }),
        TrainingOption.Flag("pack", "put short rows into one sequence", ResumeRule.Same, o => o.Pack, (o, v) => o with { Pack = v }),
        TrainingOption.LongInteger(
            "seed", "seed of initialisation, order and dropout", o => o.Seed, (o, v) => o with { Seed = v }),
        TrainingOption.Flag(
            "shuffle", "take the rows in a new random order each epoch", ResumeRule.Same, o => o.Shuffle, (o, v) => o with { Shuffle = v }),
        TrainingOption.OptionalInteger(
            "checkpoint_every", "steps between checkpoints (none); the latest two are kept", ResumeRule.Free,
            o => o.CheckpointEvery, (o, v) => o with { CheckpointEvery = v }),
        TrainingOption.Flag(
            "resume", "go on from the last checkpoint", ResumeRule.Free, o => o.Resume, (o, v) => o with { Resume = v }),
        TrainingOption.Flag(
            "gradient_checkpointing", "compute blocks again in the backward pass instead of keeping them", ResumeRule.Free,
            o => o.GradientCheckpointing, (o, v) => o with { GradientCheckpointing = v }),
        TrainingOption.Text(
            "max_memory", "memory that the run may take, such as 20GiB: the rows of a step are spread over forward passes to fit",
            ResumeRule.Free, o => o.MaxMemory, (o, v) => o with { MaxMemory = v }),
        TrainingOption.Choice<DType?>(
            "dtype", "element type of the base's weights while training (f32; on a GPU the checkpoint's own if bf16 or f16)",
            [("null", null), ("f32", Tensors.DType.F32), ("bf16", Tensors.DType.BF16), ("f16", Tensors.DType.F16)],
            o => o.DType, (o, v) => o with { DType = v }),
        TrainingOption.OptionalInteger(
            "eval_every", "steps between evaluations (at the end of each epoch)", ResumeRule.Free,
            o => o.EvalEvery, (o, v) => o with { EvalEvery = v }),
        TrainingOption.OptionalInteger(
            "patience", "evaluations without a lower loss after which training stops (never)", ResumeRule.Free,
            o => o.Patience, (o, v) => o with { Patience = v }),
    ];
}

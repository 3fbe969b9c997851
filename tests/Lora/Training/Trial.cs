using System.Runtime.InteropServices;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>A small training run from scratch: the fixtures' Llama, a new adapter (or every weight), made-up rows.</summary>
internal sealed class Trial : ITrainingObserver, IDisposable
{
    public const string Config = """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear" """;
    public const string WithDropout = Config + """, "lora_dropout": 0.1 """;

    private readonly string? _output;
    private readonly CancellationTokenSource _cancellation = new();

    public Trial(
        TrainingOptions options, IReadOnlyList<Example> examples, string config = Config, string model = "arch/llama",
        string? output = null, AdaptedModel? adapted = null)
    {
        Options = options;
        _output = output;
        Model = adapted ?? ParityRun.Load(model);
        if (options.Method == TrainingMethod.Full)
        {
            Run = new TrainingRun(Model, Model.TrainBase(), options, examples);
        }
        else
        {
            Adapter = Model.Add("new", Fixture.Config(config), (ulong)options.Seed);
            Run = new TrainingRun(Model, Model.Train("new"), options, examples);
        }
    }

    public TrainingOptions Options { get; }

    public AdaptedModel Model { get; }

    public LoraAdapter? Adapter { get; }

    public TrainingRun Run { get; }

    public List<TrainingMetrics> Metrics { get; } = [];

    public List<(int Step, bool IsBest)> Evaluations { get; } = [];

    public List<string> Checkpoints { get; } = [];

    /// <summary>The step after which to cancel.</summary>
    public int? CancelAfter { get; init; }

    /// <summary>Runs to the end and returns the outcome.</summary>
    public TrainingOutcome Go(Func<EvaluationResult>? evaluate = null) => Run.Run(
        this, evaluate, _output is null ? null : _ => TrainingCheckpoint.Save(_output, Run, Options), _cancellation.Token);

    /// <summary>The bytes of everything trained.</summary>
    public byte[] Bits() => [.. Run.Trained.SelectMany(p => Bytes(p.Value))];

    /// <summary>The losses and norms of the steps made.</summary>
    public IEnumerable<(int Step, double Loss, double Norm, double Rate)> Course() =>
        Metrics.Select(m => (m.Step, m.Loss, m.GradientNorm, m.LearningRate));

    public void OnStep(TrainingMetrics metrics)
    {
        Metrics.Add(metrics);
        if (metrics.Step == CancelAfter)
        {
            _cancellation.Cancel();
        }
    }

    public void OnEvaluation(int step, EvaluationResult result, bool isBest) => Evaluations.Add((step, isBest));

    public void OnCheckpoint(int step, string directory) => Checkpoints.Add(directory);

    public void Dispose()
    {
        Run.Dispose();
        Model.Dispose();
        _cancellation.Dispose();
    }

    /// <summary>Rows of 5 to <paramref name="longest"/> tokens whose first third is a prompt.</summary>
    public static Example[] Examples(int count, int seed = 1, int longest = 18, int vocabulary = 71)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ =>
        {
            int[] tokens = [.. Enumerable.Range(0, random.Next(5, longest + 1)).Select(_ => random.Next(vocabulary))];
            int[] labels = [.. tokens];
            Array.Fill(labels, Example.IgnoredLabel, 0, Math.Max(1, tokens.Length / 3));
            return new Example(tokens, labels);
        })];
    }

    private static byte[] Bytes(Tensor tensor) => tensor.DType == DType.F32
        ? MemoryMarshal.AsBytes<float>(tensor.ToArray<float>()).ToArray()
        : MemoryMarshal.AsBytes<BFloat16>(tensor.ToArray<BFloat16>()).ToArray();
}

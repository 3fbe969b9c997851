using System.Diagnostics;
using Engine.Autograd;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Tensors.Cuda;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Cli.Bench;

/// <summary>Training steps to time.</summary>
/// <param name="Model">Directory of the model.</param>
/// <param name="Adapter">The adapter's configuration; null to train every weight.</param>
/// <param name="DType">Element type of the base, or null for the device's choice.</param>
/// <param name="Rows">Rows of a batch.</param>
/// <param name="Length">Tokens of a row.</param>
/// <param name="Warmup">Steps before the timed ones.</param>
/// <param name="Steps">Timed steps.</param>
/// <param name="Checkpointing">Whether blocks are computed again in the backward pass.</param>
internal sealed record TrainBench(
    string Model, LoraConfig? Adapter, DType? DType, int Rows, int Length, int Warmup, int Steps, bool Checkpointing)
{
    // As many different batches as the comparison with PyTorch takes in turn.
    private const int Batches = 4;
    private const double LearningRate = 1e-4;

    /// <summary>Loads the model and runs the steps.</summary>
    /// <exception cref="EngineDataException">The model cannot be loaded, does not fit the device, or the rows are too long.</exception>
    public TrainBenchResult Run(Device device, CancellationToken cancellation)
    {
        long begin = Stopwatch.GetTimestamp();
        long bytes = BytesOf(Model);
        using var model = new AdaptedModel(DecoderModel.LoadToCompute(Model, DType, device));
        device.Synchronize();
        double load = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        if (Adapter is not null)
        {
            model.Add("bench", Adapter, seed: 0);
        }

        IReadOnlyList<Variable> trained = Adapter is null ? model.TrainBase() : model.Train("bench");
        using var step = new TrainingStep(model, trained, new AdamWOptions()) { GradientCheckpointing = Checkpointing };
        Batch[] batches = [.. Enumerable.Range(0, Batches).Select(b => RandomBatch(b, model.Base.Config.VocabularySize))];
        var losses = new double[Warmup + Steps];
        var starts = new long[Steps + 1];
        double first = 0;
        for (int i = 0; i < losses.Length; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (i == Warmup)
            {
                device.Synchronize();
            }

            if (i >= Warmup)
            {
                starts[i - Warmup] = Stopwatch.GetTimestamp();
            }

            losses[i] = step.Run([batches[i % Batches]], LearningRate).Loss;
            if (i == 0)
            {
                device.Synchronize();
                first = BenchMachine.SecondsSinceStart();
            }
        }

        device.Synchronize();
        starts[Steps] = Stopwatch.GetTimestamp();
        return new TrainBenchResult
        {
            Milliseconds = [.. Enumerable.Range(0, Steps).Select(i => Stopwatch.GetElapsedTime(starts[i], starts[i + 1]).TotalMilliseconds)],
            TokensPerStep = (long)Rows * Length,
            PeakAllocatedBytes = device.PeakBytes,
            PeakReservedBytes = (device as CudaDevice)?.PeakReservedBytes ?? 0,
            SecondsToFirstStep = first,
            SecondsToLoad = load,
            LoadBytesPerSecond = bytes / load,
            Losses = losses,
            TrainedParameters = trained.Sum(p => p.Value.Elements),
            DType = model.Base.DType,
            FlopsPerStep = ModelFlops.OfTraining(model).Of(batches[0].Lengths),
            PeakFlops = NominalPeak.Of(device, model.Base.DType),
            Graphs = device is CudaDevice { UsesGraphs: true },
        };
    }

    /// <summary>Bytes of a checkpoint's tensors.</summary>
    public static long BytesOf(string model)
    {
        using CheckpointReader checkpoint = CheckpointReader.Open(model);
        return checkpoint.TotalBytes;
    }

    private Batch RandomBatch(int seed, int vocabulary)
    {
        var random = new Random(seed);
        var examples = new Example[Rows];
        for (int r = 0; r < Rows; r++)
        {
            int[] tokens = [.. Enumerable.Range(0, Length).Select(_ => random.Next(vocabulary))];
            int[] labels = [.. tokens];
            labels[0] = Example.IgnoredLabel;
            examples[r] = new Example(tokens, labels);
        }

        return Batch.Collate(examples);
    }
}

using System.Globalization;
using System.Text.Json;
using Engine.Autograd;
using Engine.Kernels.Cpu;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Bench.Training;

/// <summary>
/// Tokens per second of optimizer steps on the shape of the demo's base model with random weights and tokens: all weights,
/// and LoRA on all linears with the last third of each row labelled, as the demo trains.
/// </summary>
internal static class TrainBench
{
    private const int Warmup = 3;
    private const int Samples = 15;

    private static readonly (string Name, bool Full, int Rows, int Length)[] s_cases =
    [
        ("full, 40 rows of 256", true, 40, 256),
        ("LoRA r 16, 8 rows of 96", false, 8, 96),
        ("LoRA r 16, 32 rows of 96", false, 32, 96),
    ];

    public static int Run(string[] args)
    {
        string? json = null;
        if (args is ["--json", var file])
        {
            json = file;
        }
        else if (args.Length > 0)
        {
            Console.WriteLine("Usage: engine-bench train [--json FILE]");
            return args[0] is "--help" or "-h" ? 0 : 2;
        }

        BenchHost host = BenchHost.Current();
        Console.WriteLine(host);
        Console.WriteLine($"{CpuParallel.ThreadCount} threads; median of {Samples} steps after {Warmup}");
        Console.WriteLine();
        Console.WriteLine("| training | tokens/step | ms/step | tokens/s |");
        Console.WriteLine("|---|---|---|---|");
        var results = new List<(string Name, int Tokens, double Seconds)>();
        foreach ((string name, bool full, int rows, int length) in s_cases)
        {
            double seconds = Median(full, rows, length);
            results.Add((name, rows * length, seconds));
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"| {name} | {rows * length} | {1000 * seconds:F0} | {rows * length / seconds:F0} |"));
        }

        if (json is not null)
        {
            AtomicFile.Write(json, stream => Write(stream, host, results));
        }

        return 0;
    }

    private static double Median(bool full, int rows, int length)
    {
        var config = new ModelConfig
        {
            Family = ModelFamily.Llama,
            VocabularySize = 1024,
            HiddenSize = 192,
            LayerCount = 4,
            HeadCount = 6,
            KeyValueHeadCount = 3,
            HeadDim = 32,
            IntermediateSize = 512,
            MaxPositions = 512,
            TieWordEmbeddings = true,
        };
        using var model = new AdaptedModel(
            DecoderModel.Build(config, new RandomParameters(1, config.LayerCount), DType.F32, Device.Cpu));
        if (!full)
        {
            model.Add("bench", new LoraConfig { Rank = 16, Alpha = 32, TargetModules = NamesOrPattern.AllLinear }, 1);
        }

        IReadOnlyList<Variable> trained = full ? model.TrainBase() : model.Train("bench");
        using var step = new TrainingStep(model, trained, new AdamWOptions());
        Batch batch = RandomBatch(rows, length, config.VocabularySize, full ? 1 : length * 2 / 3);
        var samples = new double[Samples];
        for (int i = -Warmup; i < Samples; i++)
        {
            double seconds = BenchHost.Time(() => step.Run([batch], 1e-3), 1);
            if (i >= 0)
            {
                samples[i] = seconds;
            }
        }

        return BenchHost.Median(samples);
    }

    private static Batch RandomBatch(int rows, int length, int vocabulary, int unlabelled)
    {
        var random = new Random(1);
        var examples = new Example[rows];
        for (int r = 0; r < rows; r++)
        {
            int[] tokens = [.. Enumerable.Range(0, length).Select(_ => random.Next(vocabulary))];
            int[] labels = (int[])tokens.Clone();
            labels.AsSpan(0, unlabelled).Fill(Example.IgnoredLabel);
            examples[r] = new Example(tokens, labels);
        }

        return Batch.Collate(examples);
    }

    private static void Write(Stream stream, BenchHost host, List<(string Name, int Tokens, double Seconds)> results)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        host.Write(json);
        json.WriteNumber("threads", CpuParallel.ThreadCount);
        json.WriteStartArray("results");
        foreach ((string name, int tokens, double seconds) in results)
        {
            json.WriteStartObject();
            json.WriteString("training", name);
            json.WriteNumber("tokens_per_step", tokens);
            json.WriteNumber("ms_per_step", 1000 * seconds);
            json.WriteNumber("tokens_per_second", tokens / seconds);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}

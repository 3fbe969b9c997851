using System.Diagnostics;
using Engine.Autograd;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli.Demo;

/// <summary>What the demo may be told.</summary>
/// <param name="Seed">Seed of the adapters' first values and of the data order.</param>
/// <param name="Output">Keeps the base, the adapters and the merged model; null for a temporary directory.</param>
/// <param name="Steps">Optimizer steps for each task.</param>
/// <param name="HeldOutRows">Held-out rows to measure on, at most as many as there are.</param>
internal sealed record DemoOptions(ulong Seed = 0, string? Output = null, int Steps = 120, int HeldOutRows = 200);

/// <summary>
/// The whole loop on the embedded model: measure, fine-tune one adapter a task, measure again, merge and unmerge, answer a
/// batch that mixes both tasks. Says what it does through <see cref="IDemoDisplay"/>.
/// </summary>
internal sealed class DemoRunner(DemoOptions options, Device device, IDemoDisplay display, CancellationToken cancellation)
{
    private const int MixedRows = 16;

    private static readonly TaskLanguage[] s_languages = [TaskLanguage.Sql, TaskLanguage.Pandas];

    /// <summary>Runs the demo.</summary>
    /// <exception cref="EngineDataException">The output directory cannot be written.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public DemoReport Run()
    {
        string directory = options.Output ?? Directory.CreateTempSubdirectory("engine-demo-").FullName;
        try
        {
            return Run(directory);
        }
        finally
        {
            if (options.Output is null)
            {
                Directory.Delete(directory, recursive: true);
            }
        }
    }

    private DemoReport Run(string directory)
    {
        long start = Stopwatch.GetTimestamp();
        string basePath = Path.Combine(directory, "base");
        DemoModel.Unpack(basePath);
        var tokenizer = Tokenizer.Load(basePath);
        using var model = new AdaptedModel(DecoderModel.Load(basePath, DType.F32, device));
        var builder = new ExampleBuilder(
            new ExampleOptions { VocabularySize = model.Base.Config.VocabularySize, MaxLength = model.Base.Config.MaxPositions },
            new TokenizerEncoder(tokenizer));
        display.OnModel(model.Base.ParameterCount, tokenizer.VocabularySize);
        var tasks = new List<DemoTask>();
        var heldOut = new Dictionary<string, IReadOnlyList<EvaluationRow>>();
        foreach (TaskLanguage language in s_languages)
        {
            string name = TaskData.Tag(language);
            heldOut[name] = [.. DemoData.Load(language, Split.HeldOut).Rows.Take(options.HeldOutRows).Select(r => EvaluationRow.From(r, builder))];
            tasks.Add(RunTask(model, tokenizer, builder, language, name, heldOut[name]));
            AdapterFile.Save(model.Get(name), Path.Combine(directory, name));
        }

        DemoMerge merge = Merge(model, basePath, directory, heldOut["sql"]);
        DemoMixedBatch mixed = Mix(model, tokenizer, heldOut);
        var report = new DemoReport(tasks, merge, mixed, Stopwatch.GetElapsedTime(start).TotalSeconds);
        display.OnReport(report, options.Output);
        return report;
    }

    private DemoTask RunTask(
        AdaptedModel model, Tokenizer tokenizer, ExampleBuilder builder, TaskLanguage language, string name, IReadOnlyList<EvaluationRow> heldOut)
    {
        model.Activate(null);
        double before = Measure(model, tokenizer, heldOut, name, "before");
        LoraConfig config = Config();
        model.Add(name, config, options.Seed);
        IReadOnlyList<Variable> trained = model.Train(name);
        TrainingOptions training = Training(options);
        IReadOnlyList<Example> examples = builder.Build(DemoData.Load(language, Split.Train));
        var losses = new List<double>();
        long start = Stopwatch.GetTimestamp();
        using (var run = new TrainingRun(model, trained, training, examples, model.Base.Config.PadTokenId ?? 0))
        {
            run.Run(new Observer(display, name, losses), evaluate: null, checkpoint: null, cancellation);
        }

        cancellation.ThrowIfCancellationRequested();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        double after = Measure(model, tokenizer, heldOut, name, "after");
        int tenth = Math.Max(1, losses.Count / 10);
        var task = new DemoTask(name, before, after, seconds, losses.Take(tenth).Average(), losses.TakeLast(tenth).Average());
        display.OnTask(task, losses);
        return task;
    }

    private double Measure(AdaptedModel model, Tokenizer tokenizer, IReadOnlyList<EvaluationRow> rows, string task, string when)
    {
        EvaluationResult result = new Evaluator(model.Base, tokenizer).Evaluate(
            rows, null, progress => display.OnEvaluation(task, when, progress), cancellation);
        CompletionComparison sample = result.Completions![0];
        display.OnSample(task, when, tokenizer.Decode([.. rows[0].Prompt]), sample.Generated, sample.Reference);
        return result.ExactMatch ?? 0;
    }

    private static DemoMerge Merge(AdaptedModel model, string basePath, string directory, IReadOnlyList<EvaluationRow> rows)
    {
        model.Activate("sql");
        int[][] prompts = [.. rows.Take(8).Select(r => r.Prompt.ToArray())];
        float[][] beside = [.. prompts.Select(p => Logits(model, p))];
        string before = model.BaseHash();
        model.Merge([("sql", 1)]);
        float[][] merged = [.. prompts.Select(p => Logits(model, p))];
        model.SaveMerged(Path.Combine(directory, "merged-sql"), basePath, DType.BF16);
        model.Unmerge();
        string after = model.BaseHash();
        double difference = 0;
        for (int i = 0; i < beside.Length; i++)
        {
            for (int j = 0; j < beside[i].Length; j++)
            {
                difference = Math.Max(difference, Math.Abs(beside[i][j] - merged[i][j]));
            }
        }

        return new DemoMerge(difference, before == after, before, after);
    }

    private DemoMixedBatch Mix(AdaptedModel model, Tokenizer tokenizer, Dictionary<string, IReadOnlyList<EvaluationRow>> heldOut)
    {
        string[] names = [.. s_languages.Select(TaskData.Tag)];
        int each = Math.Min(MixedRows / names.Length, heldOut.Values.Min(r => r.Count));
        var generator = new Generator(model.Base, tokenizer);
        var generation = new GenerationOptions { StopTokenIds = model.Base.Config.EosTokenIds, MaxNewTokens = 96 };
        var single = new List<string?>();
        var requests = new List<GenerationRequest>();
        for (int i = 0; i < each; i++)
        {
            for (int a = 0; a < names.Length; a++)
            {
                model.Activate(names[a]);
                int[] prompt = [.. heldOut[names[a]][i].Prompt];
                single.Add(generator.Generate([new GenerationRequest(prompt)], generation, null, cancellation)[0].Text);
                requests.Add(new GenerationRequest(prompt) { Adapter = a });
            }
        }

        model.ActivateMixed(names);
        IReadOnlyList<GenerationResult> mixed = generator.Generate(requests, generation, null, cancellation);
        model.Activate(null);
        display.OnMixed([.. mixed.Select((r, i) => (names[i % names.Length], r.Text ?? string.Empty))]);
        return new DemoMixedBatch(requests.Count, mixed.Select(r => r.Text).SequenceEqual(single));
    }

    private static float[] Logits(AdaptedModel model, int[] ids)
    {
        using Tape tape = Tape.Inference();
        using BatchContext batch = BatchContext.Dense(model.Base.Device, 1, ids.Length);
        using Variable hidden = model.Base.Hidden(tape, batch, ids);
        using Variable logits = model.Base.Logits(tape, batch, hidden);
        return logits.Value.ToArray<float>();
    }

    private static LoraConfig Config() => new()
    {
        Rank = 16,
        Alpha = 32,
        TargetModules = NamesOrPattern.AllLinear,
        TaskType = "CAUSAL_LM",
        BaseModelNameOrPath = "base",
    };

    private static TrainingOptions Training(DemoOptions options) => new()
    {
        Steps = options.Steps,
        BatchSize = 8,
        LearningRate = 3e-3,
        Schedule = ScheduleKind.Linear,
        Warmup = Math.Min(10, options.Steps - 1),
        WeightDecay = 0,
        Clip = 1,
        Seed = (long)options.Seed,
    };

    private sealed class Observer(IDemoDisplay display, string task, List<double> losses) : ITrainingObserver
    {
        public void OnStep(TrainingMetrics metrics)
        {
            losses.Add(metrics.Loss);
            display.OnStep(task, metrics);
        }

        public void OnEvaluation(int step, EvaluationResult result, bool isBest)
        {
        }

        public void OnCheckpoint(int step, string directory)
        {
        }
    }
}

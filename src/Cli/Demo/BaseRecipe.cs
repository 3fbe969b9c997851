using Engine.Autograd;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli.Demo;

/// <summary>
/// How the embedded base model is made: its vocabulary, its shape and its training, all from a seed. The same steps on the
/// same vector width give the same bytes on any number of threads; an interrupted run goes on from its checkpoint.
/// </summary>
internal sealed class BaseRecipe(int steps)
{
    /// <summary>Seed of the text, the initial weights and nothing else.</summary>
    public const ulong Seed = 20_260;

    private const int VocabularySize = 1024;
    private const int VocabularyDocuments = 20_000;
    private const int DocumentsPerStep = 128;
    private const int RowLength = 256;
    private const int CheckpointEvery = 200;
    private const string Begin = "<s>";
    private const string End = "</s>";

    /// <summary>The model's shape: 1,820,352 parameters.</summary>
    public static ModelConfig Config { get; } = new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = VocabularySize,
        HiddenSize = 192,
        LayerCount = 4,
        HeadCount = 6,
        KeyValueHeadCount = 3,
        HeadDim = 32,
        IntermediateSize = 512,
        MaxPositions = 512,
        TieWordEmbeddings = true,
        BosTokenId = 0,
        EosTokenIds = [1],
        PadTokenId = 1,
    };

    /// <summary>The optimizer: higher rate and shorter memory than fine-tuning's, as usual for pre-training.</summary>
    private static AdamWOptions Optimizer { get; } = new(Beta1: 0.9, Beta2: 0.98, WeightDecay: 0.1);

    private LearningRateSchedule Schedule { get; } = new(ScheduleKind.Cosine, peak: 3e-3, warmupSteps: 100, steps);

    /// <summary>Trains the vocabulary into <paramref name="directory"/> if it is not there yet, and loads it.</summary>
    /// <param name="directory">Receives the vocabulary.</param>
    /// <param name="cancellation">Looked at between documents.</param>
    /// <exception cref="OperationCanceledException">Cancelled; nothing was written.</exception>
    public static Tokenizer Vocabulary(string directory, CancellationToken cancellation = default)
    {
        if (!File.Exists(Path.Combine(directory, "tokenizer.json")))
        {
            var trainer = new BpeTrainer(VocabularySize, BaseCorpus.PretokenizerPattern, [Begin, End]);
            foreach (BaseDocument document in BaseCorpus.Documents(Seed + 1, 0, VocabularyDocuments))
            {
                cancellation.ThrowIfCancellationRequested();
                trainer.Add(document.Text);
            }

            TokenizerJsonWriter.Write(directory, trainer.Train(), Begin, End, End);
        }

        return Tokenizer.Load(directory);
    }

    /// <summary>Trains until the last step or until told to stop, then saves a checkpoint and the model in bf16.</summary>
    /// <param name="directory">Receives the vocabulary, a checkpoint while training, and the model.</param>
    /// <param name="device">Where to train.</param>
    /// <param name="stop">Asked before each step.</param>
    /// <param name="report">Told each step's number, loss and tokens per second.</param>
    /// <param name="cancellation">Asks to stop before the next step, as <paramref name="stop"/> does, or within the vocabulary.</param>
    /// <returns>True when all steps are done.</returns>
    /// <exception cref="OperationCanceledException">Cancelled before there was a vocabulary.</exception>
    public bool Run(
        string directory, Device device, Func<bool> stop, Action<int, double, double> report, CancellationToken cancellation = default)
    {
        Tokenizer tokenizer = Vocabulary(directory, cancellation);
        using var model = new AdaptedModel(
            DecoderModel.Build(Config, new RandomParameters(Seed, Config.LayerCount), DType.F32, device));
        IReadOnlyList<Variable> trained = model.TrainBase();
        using var step = new TrainingStep(model, trained, Optimizer) { Clip = 1 };
        string state = Path.Combine(directory, "pretraining.safetensors");
        if (File.Exists(state))
        {
            OptimizerState.Load(state, trained, step.Optimizer);
        }

        Task<Batch> next = Task.Run(() => BatchOf(tokenizer, step.Optimizer.Steps));
        while (step.Optimizer.Steps < steps && !cancellation.IsCancellationRequested && !stop())
        {
            Batch batch = next.Result;
            int following = step.Optimizer.Steps + 1;
            next = Task.Run(() => BatchOf(tokenizer, following));
            long begin = System.Diagnostics.Stopwatch.GetTimestamp();
            StepResult result = step.Run([batch], Schedule.At(step.Optimizer.Steps));
            double seconds = System.Diagnostics.Stopwatch.GetElapsedTime(begin).TotalSeconds;
            report(step.Optimizer.Steps, result.Loss, result.Tokens / seconds);
            if (step.Optimizer.Steps % CheckpointEvery == 0)
            {
                OptimizerState.Save(state, trained, step.Optimizer);
            }
        }

        OptimizerState.Save(state, trained, step.Optimizer);
        model.Base.Save(directory, dtype: DType.BF16);
        return step.Optimizer.Steps >= steps;
    }

    // Every token counts: the prompts teach how questions are asked and repeat the schema's words, which is copying too.
    private static Batch BatchOf(Tokenizer tokenizer, int step)
    {
        var examples = new List<Example>(DocumentsPerStep);
        foreach (BaseDocument document in BaseCorpus.Documents(Seed, (long)step * DocumentsPerStep, DocumentsPerStep))
        {
            int[] prompt = tokenizer.Encode(document.Prompt);
            int[] completion = tokenizer.Encode(document.Completion, addSpecialTokens: false);
            int[] tokens = [.. prompt, .. completion, Config.EosTokenIds[0]];
            int[] labels = (int[])tokens.Clone();
            labels[0] = Example.IgnoredLabel;
            examples.Add(new Example(tokens, labels));
        }

        return Batch.Collate(SequencePacker.Pack(examples, RowLength), Config.PadTokenId!.Value);
    }
}

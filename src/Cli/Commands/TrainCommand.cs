using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Engine.Lora;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Cli;

/// <summary><c>engine train</c>: fine-tunes a model.</summary>
internal static class TrainCommand
{
    private const string CurveFile = "loss.svg";

    public static Command Create(GlobalOptions global)
    {
        var command = new Command("train", """
            Fine-tunes a model: trains a LoRA adapter, or every weight with --method full.

            Ctrl+C finishes the step, writes a checkpoint and exits with code 130; --resume goes on from the latest
            checkpoint in --out, with the bits of a run that was never interrupted. The learning curve is drawn as
            loss.svg beside the result. The base is held in f32, on a GPU in the checkpoint's own type when that is bf16 or
            f16, unless --dtype says otherwise; adapters and the optimizer's state are f32. An adapter is saved in f32, a
            whole model in the dtype its base is stored in (or --dtype).

            Example:
              engine train --model Llama-3.2-1B --data train.jsonl --eval held-out.jsonl --out my-adapter --rank 16 --epochs 3
            """);
        var options = new TrainOptions();
        var dryRun = OptionOf.Flag("--dry-run", "Print what would be trained (parameters, memory, steps) and stop; nothing is written.");
        var json = OptionOf.Flag("--json", "Print the summary as JSON.");
        options.AddTo(command);
        command.Add(dryRun);
        command.Add(json);
        global.Handle(command, context =>
        {
            TrainingOptions training = options.Read(context);
            using FineTuning tuning = FineTuning.Open(training, context.Device);
            NoteDropout(tuning.Model.Base.Config, context);
            if (context.Get(dryRun))
            {
                TrainPlan.Write(tuning, context, context.Get(json));
                return ExitCode.Success;
            }

            return Train(tuning, context, context.Get(json));
        });
        return command;
    }

    private static int Train(FineTuning tuning, CommandContext context, bool json)
    {
        TrainingOptions options = tuning.Options;

        // Before the metrics of an earlier run are replaced.
        tuning.RequireWritable();
        Announce(tuning, context);
        long begin = Stopwatch.GetTimestamp();
        int before = tuning.Run.StepsDone;
        TrainingOutcome outcome;
        long tokens;
        using (MetricsFile? metrics = options.Metrics is null ? null : MetricsFile.Open(options.Metrics, before))
        using (var display = new TrainingDisplay(context.Console, context.Quiet, peak: NominalPeak.Of(context.Device, tuning.Model.Base.DType)))
        {
            outcome = tuning.Train(new Observers(metrics, display), context.Console.Cancellation);
            tokens = display.Tokens;
        }

        if (outcome.End == TrainingEnd.Cancelled)
        {
            return Interrupted(tuning, context, outcome.Steps);
        }

        WriteCurve(tuning);
        var summary = new TrainSummary(tuning, outcome, tokens, Stopwatch.GetElapsedTime(begin));
        summary.Write(context.Console, json);
        return ExitCode.Success;
    }

    private static void Announce(FineTuning tuning, CommandContext context)
    {
        if (tuning.ResumedFrom is { } checkpoint)
        {
            context.Note($"going on from {checkpoint}");
        }
        else if (tuning.Options.Resume)
        {
            context.Note($"{tuning.Options.Out} holds no checkpoint yet; starting from the beginning");
        }

        if (tuning.Plan is { } plan)
        {
            context.Note(plan.ToString());
        }

        long trained = tuning.Run.Trained.Sum(p => p.Value.Elements);
        context.Note(string.Create(
            CultureInfo.InvariantCulture,
            $"training {trained:N0} of {tuning.Model.Base.ParameterCount:N0} parameters on {tuning.Examples.Count:N0} rows, {tuning.Run.TotalSteps:N0} steps"));
    }

    private static void NoteDropout(ModelConfig config, CommandContext context)
    {
        bool gpt2 = config.Family == ModelFamily.Gpt2;
        (string Field, double Value)[] dropouts =
        [
            (gpt2 ? "attn_pdrop" : "attention_dropout", config.AttentionDropout),
            ("embd_pdrop", config.EmbeddingDropout),
            ("resid_pdrop", config.ResidualDropout),
        ];
        string given = string.Join(", ", dropouts.Where(d => d.Value > 0).Select(d => string.Create(CultureInfo.InvariantCulture, $"{d.Field} {d.Value}")));
        if (given.Length > 0)
        {
            context.Note($"the base's own dropout ({given}) is not applied during fine-tuning; LoRA's is");
        }
    }

    private static int Interrupted(FineTuning tuning, CommandContext context, int steps)
    {
        string output = tuning.Options.Out!;
        context.Console.Error.WriteLine(TrainingCheckpoint.Latest(output) is { } checkpoint
            ? $"interrupted after step {steps}; the state is in {checkpoint}: go on with the same command and --resume"
            : "interrupted before the first step; nothing was written");
        return ExitCode.Interrupted;
    }

    private static void WriteCurve(FineTuning tuning)
    {
        string svg = LossChart.Draw([new LossSeries("training", tuning.History.Training, tuning.History.Evaluation)], "Training loss");
        AtomicFile.WriteAllText(Path.Combine(tuning.Options.Out!, CurveFile), svg);
    }

    private sealed class Observers(params ITrainingObserver?[] all) : ITrainingObserver
    {
        public void OnStep(TrainingMetrics metrics)
        {
            foreach (ITrainingObserver? observer in all)
            {
                observer?.OnStep(metrics);
            }
        }

        public void OnEvaluation(int step, EvaluationResult result, bool isBest)
        {
            foreach (ITrainingObserver? observer in all)
            {
                observer?.OnEvaluation(step, result, isBest);
            }
        }

        public void OnCheckpoint(int step, string directory)
        {
            foreach (ITrainingObserver? observer in all)
            {
                observer?.OnCheckpoint(step, directory);
            }
        }
    }
}

using System.CommandLine;
using System.Globalization;
using System.Text;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary><c>engine eval</c>: loss, perplexity and exact match on a file of rows.</summary>
internal static class EvalCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("eval", """
            Measures a model on a data file: mean loss and perplexity over the labelled tokens, and for rows with a prompt
            the share whose greedily generated completion equals the reference (white space at the end aside).

            Example:
              engine eval --model Llama-3.2-1B --adapter my-adapter --data held-out.jsonl --predictions answers.jsonl
            """);
        var model = new ModelOptions();
        var data = OptionOf.Text("--data", "FILE.jsonl", "Rows to measure on.", required: true);
        var limit = OptionOf.OptionalInteger("--limit", "Take the first N rows only.", 1);
        var maxLength = OptionOf.OptionalInteger("--max-length", "Longest row in tokens (the model's limit).", 2);
        var truncate = OptionOf.Flag("--truncate", "Cut longer rows instead of refusing them.");
        var lossOnly = OptionOf.Flag("--loss-only", "Generate nothing: no exact match.");
        var predictions = OptionOf.Text("--predictions", "FILE.jsonl", "Write each generated completion beside its reference.");
        var json = OptionOf.Flag("--json", "Print the result as JSON.");
        model.AddTo(command);
        foreach (Option option in (Option[])[data, limit, maxLength, truncate, lossOnly, predictions, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            var loader = new DataLoader(model.Config(context), model.Tokenizer(context), context.Get(maxLength), context.Get(truncate));
            IReadOnlyList<EvaluationRow> rows = loader.EvaluationRows(context.Get(data)!, context.Get(limit));
            using AdaptedModel opened = model.Open(context);
            EvaluationResult result;
            using (var status = new StatusLine(context.Console, context.Quiet))
            {
                result = new Evaluator(opened.Base, loader.Tokenizer).Evaluate(
                    rows,
                    new EvaluationOptions { ExactMatch = !context.Get(lossOnly) },
                    p => status.Show($"{(p.Phase == EvaluationPhase.Loss ? "loss" : "generating")} {p.Done}/{p.Total}"),
                    context.Console.Cancellation);
            }

            if (context.Get(predictions) is { } path)
            {
                WritePredictions(path, result);
            }

            Print(context, result, context.Get(json));
            return ExitCode.Success;
        });
        return command;
    }

    private static void Print(CommandContext context, EvaluationResult result, bool json)
    {
        if (json)
        {
            context.Console.Output.WriteJson(result.WriteJson);
            return;
        }

        var pairs = new List<(string, string)>
        {
            ("rows", Results.Count(result.Examples)),
            ("labelled tokens", Results.Count(result.Tokens)),
            ("loss", result.Loss.ToString("0.000000", CultureInfo.InvariantCulture)),
            ("perplexity", result.Perplexity.ToString("0.0000", CultureInfo.InvariantCulture)),
        };
        if (result.ExactMatch is { } share)
        {
            int matches = result.Completions!.Count(c => c.Matches);
            pairs.Add(("exact match", string.Create(CultureInfo.InvariantCulture, $"{100 * share:0.0}% ({matches} of {result.Completions!.Count})")));
        }

        pairs.Add(("time", Results.Duration(TimeSpan.FromSeconds(result.Seconds))));
        context.Console.WritePairs(pairs);
    }

    private static void WritePredictions(string path, EvaluationResult result) => AtomicFile.Write(path, stream =>
    {
        foreach (CompletionComparison comparison in result.Completions ?? [])
        {
            string line = Results.JsonLine(json =>
            {
                json.WriteStartObject();
                json.WriteNumber("row", comparison.Row);
                json.WriteString("generated", comparison.Generated);
                json.WriteString("reference", comparison.Reference);
                json.WriteBoolean("match", comparison.Matches);
                json.WriteEndObject();
            });
            stream.Write(Encoding.UTF8.GetBytes(line + "\n"));
        }
    });
}

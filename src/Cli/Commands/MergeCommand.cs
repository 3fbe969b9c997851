using System.CommandLine;
using Engine.Lora;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Cli;

/// <summary><c>engine merge</c>: writes adapters into a model.</summary>
internal static class MergeCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("merge", """
            Writes one or more adapters into a model and saves it as a plain model directory, which needs no adapter:
            W ← W + Σ weight · scale · B·A, computed in f32 and rounded once to the model's own dtype.

            Prints a hash of the base's bits before the merge, of the merged bits, and of the base after the merge was
            undone again in memory, which must be the first one.

            Example:
              engine merge --model Llama-3.2-1B --adapter my-adapter --out merged
              engine merge --model Llama-3.2-1B --adapter sql:0.7 --adapter pandas:0.3 --out merged --report
            """);
        var model = OptionOf.Text("--model", "DIR", "Directory of the base model.", required: true);
        var adapters = OptionOf.Texts("--adapter", "DIR[:weight]", "Adapter to merge; can be given several times.", required: true);
        var output = OptionOf.Text("--out", "DIR", "Directory for the merged model.", required: true);
        var report = OptionOf.Flag("--report", "Print for each layer what rounding to the model's dtype took from its update.");
        var json = OptionOf.Flag("--json", "Print the result as JSON.");
        foreach (Option option in (Option[])[model, adapters, output, report, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            string directory = context.Get(model)!;
            string target = context.Get(output)!;
            RequireOther(target, directory);
            using var opened = new AdaptedModel(DecoderModel.Load(directory, dtype: null, context.Device));
            (string Name, double Weight)[] parts = LoadAll(opened, context.Get(adapters)!);
            string before = opened.BaseHash();
            MergeSummary summary = opened.Merge(parts, context.Get(report));
            string merged = opened.BaseHash();
            opened.SaveMerged(target, directory);
            opened.Unmerge();
            var outcome = new Outcome(target, parts.Length, summary, before, merged, opened.BaseHash(), opened.Base.DType);
            Print(context, outcome, context.Get(json));
            if (!outcome.IsRestored)
            {
                throw new InvalidOperationException(
                    $"undoing the merge did not give the base's bits again (hash {outcome.After}, it was {before}); do not rely on {target}");
            }

            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>Loads adapters onto a model, named by their place on the command line.</summary>
    public static (string Name, double Weight)[] LoadAll(AdaptedModel model, IReadOnlyList<string> arguments)
    {
        var parts = new List<(string, double)>();
        foreach (string argument in arguments)
        {
            AdapterArgument adapter = AdapterArgument.Parse(argument);
            string name = arguments.Count(a => AdapterArgument.Parse(a).Directory == adapter.Directory) == 1
                ? adapter.Directory
                : $"{adapter.Directory} ({parts.Count + 1})";
            AdapterFile.Load(model, name, adapter.Directory);
            parts.Add((name, adapter.Weight));
        }

        return [.. parts];
    }

    /// <summary>Refuses to write over what is read.</summary>
    public static void RequireOther(string target, params ReadOnlySpan<string> sources)
    {
        foreach (string source in sources)
        {
            if (Path.TrimEndingDirectorySeparator(Path.GetFullPath(target)) == Path.TrimEndingDirectorySeparator(Path.GetFullPath(source)))
            {
                throw new UsageException($"--out is {target}, which is read from; give another directory for the result");
            }
        }
    }

    private static void Print(CommandContext context, Outcome outcome, bool json)
    {
        if (json)
        {
            context.Console.Output.WriteJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("out", outcome.Output);
                writer.WriteNumber("adapters", outcome.Adapters);
                writer.WriteString("dtype", outcome.DType.Name());
                writer.WriteNumber("parameters_changed", outcome.Summary.Parameters);
                writer.WriteString("hash_before", outcome.Before);
                writer.WriteString("hash_merged", outcome.Merged);
                writer.WriteString("hash_after_unmerge", outcome.After);
                writer.WriteBoolean("base_restored", outcome.IsRestored);
                if (outcome.Summary.Layers is { } layers)
                {
                    MergeReport.Write(writer, layers);
                }

                writer.WriteEndObject();
            });
            return;
        }

        if (outcome.Summary.Layers is { } report)
        {
            MergeReport.Print(context.Console, report);
        }

        context.Console.WritePairs(
        [
            ("merged model", $"{outcome.Output} ({outcome.DType.Name()})"),
            ("changed", $"{outcome.Summary.Parameters} parameter tensors"),
            ("hash before", outcome.Before),
            ("hash merged", outcome.Merged),
            ("hash unmerged", $"{outcome.After} ({(outcome.IsRestored ? "the base's exact bits" : "NOT the base's bits")})"),
        ]);
    }

    private sealed record Outcome(
        string Output, int Adapters, MergeSummary Summary, string Before, string Merged, string After, DType DType)
    {
        public bool IsRestored => Before == After;
    }
}

using System.CommandLine;
using System.Text.Json;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Bench;

/// <summary><c>engine bench lora</c>: adapters against the frozen product.</summary>
internal static class BenchLoraCommand
{
    public static Command Create(GlobalOptions global)
    {
        IReadOnlyList<LoraBenchKind> kinds = LoraBenchCandidates.Kinds;
        var command = new Command("lora", $"""
            Times what adapters cost, in turns with what they are compared with: a linear layer with an adapter against the
            bare frozen product, forward and forward with backward (bare: with the product for the inputs' gradient); a merge
            against a copy of the same size; a batch that mixes adapters against the bare product.
            bench/pytorch/lora_bench.py does the same with PyTorch beside it and makes the report.

            Shapes: {string.Join("; ", kinds.Select(k => $"{k.Name}: {k.Extents}"))}.

            Examples:
              engine bench lora --shapes 8192x4096x4096,16x4096x4096 --ranks 8,16 --json lora.json
              engine bench lora --kind merge --shapes 4096x4096 --ranks 16
            """);
        var kind = OptionOf.Choice("--kind", "What to compare.", [.. kinds.Select(k => k.Name)]);
        var shapes = OptionOf.Text("--shapes", "AxB…,…", $"Their extents; for a linear layer {kinds[0].Shapes} unless given.");
        var ranks = OptionOf.Text("--ranks", "R,…", $"Ranks; for a linear layer {kinds[0].Ranks} unless given.");
        var dtype = OptionOf.DTypeOption("Element type (bf16 on a GPU, f32 on the CPU).");
        var rounds = OptionOf.Integer("--rounds", "How often the candidates take turns.", 5, 1, 1000);
        var samples = OptionOf.Integer("--samples", "Samples of each candidate in a round.", 5, 1, 1000);
        var json = OptionOf.Text("--json", "FILE", "Write the figures as JSON.");
        foreach (Option option in (Option[])[kind, shapes, ranks, dtype, rounds, samples, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            LoraBenchKind chosen = kinds.First(k => k.Name == context.Get(kind));
            IReadOnlyList<LoraBenchCase> cases = chosen.Cases(context.Get(shapes), context.Get(ranks));
            Device device = context.Device;
            DType type = context.Get(dtype) ?? (device.PrefersNarrowTypes ? DType.BF16 : DType.F32);
            var settings = new Settings(type, context.Get(rounds), context.Get(samples));
            var runner = new LoraBenchRunner(device, type, settings.Rounds, settings.Samples);
            List<LoraBenchResult> results = [.. cases.Select(c => runner.Run(c, context.Console.Cancellation))];
            Print(context, results);
            if (context.Get(json) is { } path)
            {
                AtomicFile.Write(path, stream => Write(stream, device, settings, results));
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static void Print(CommandContext context, List<LoraBenchResult> results) => context.Console.WriteTable(
        ["case", "mode", "candidate", ">µs", ">least µs", ">ratio", ""],
        from result in results
        from candidate in result.Candidates
        select (IReadOnlyList<string>)
        [
            result.Case.Title,
            result.Case.Mode,
            candidate.Candidate.Name,
            Results.Figure(DeviceTimer.Median(candidate.Rounds)),
            Results.Figure(candidate.Least),
            Results.Figure(result.Ratio(candidate)),
            candidate.Failure ?? "",
        ]);

    private static void Write(Stream stream, Device device, Settings settings, List<LoraBenchResult> results)
    {
        using var json = new Utf8JsonWriter(stream, Results.Indented);
        json.WriteStartObject();
        json.WriteString("side", "engine");
        BenchMachine.Write(json, device);
        json.WriteString("dtype", settings.DType.Name());
        json.WriteBoolean("graphs", device is CudaDevice { UsesGraphs: true });
        json.WriteNumber("rounds", settings.Rounds);
        json.WriteNumber("samples", settings.Samples);
        json.WriteStartArray("cases");
        foreach (LoraBenchResult result in results)
        {
            LoraBenchCase work = result.Case;
            json.WriteStartObject();
            json.WriteString("kind", work.Kind.Name);
            json.WriteNumber("rows", work.Rows);
            json.WriteNumber("inputs", work.Inputs);
            json.WriteNumber("outputs", work.Outputs);
            json.WriteNumber("rank", work.Rank);
            json.WriteNumber("adapters", work.Adapters);
            json.WriteString("mode", work.Mode);
            json.WriteNumber("sets", result.Sets);
            json.WriteNumber("calls", result.Calls);
            json.WriteStartArray("results");
            foreach (LoraCandidateResult candidate in result.Candidates)
            {
                Write(json, candidate);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void Write(Utf8JsonWriter json, LoraCandidateResult candidate)
    {
        json.WriteStartObject();
        json.WriteString("name", candidate.Candidate.Name);
        json.WriteNumber("passes", candidate.Candidate.Passes);
        json.WriteNumbers("us_of_rounds", candidate.Rounds);
        json.WriteFinite("us_min", candidate.Least);
        if (candidate.Failure is not null)
        {
            json.WriteString("failure", candidate.Failure);
        }

        json.WriteEndObject();
    }

    private sealed record Settings(DType DType, int Rounds, int Samples);
}

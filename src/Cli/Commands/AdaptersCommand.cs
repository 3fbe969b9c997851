using System.CommandLine;
using Engine.Lora;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Cli;

/// <summary><c>engine adapters</c>: makes adapters from others.</summary>
internal static class AdaptersCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("adapters", "Combines adapters, or imports them from other formats.");
        command.Add(CreateCombine(global));
        command.Add(CreateImport(global));
        return command;
    }

    private static Command CreateCombine(GlobalOptions global)
    {
        var command = new Command("combine", """
            Makes one adapter of several with weights, as PEFT's add_weighted_adapter: "cat" stacks the ranks, so that the
            update is exactly Σ weight · ΔW; "linear" keeps the rank (all must have the same) and adds A's and B's.

            Example:
              engine adapters combine --model Llama-3.2-1B --adapter sql:0.7 --adapter pandas:0.3 --type cat --out both
            """);
        var model = OptionOf.Text("--model", "DIR", "Directory of the base model.", required: true);
        var adapters = OptionOf.Texts("--adapter", "DIR[:weight]", "Adapter to combine; can be given several times.", required: true);
        var type = OptionOf.Choice("--type", "How they are combined.", "cat", "linear");
        var output = OptionOf.Text("--out", "DIR", "Directory for the new adapter.", required: true);
        var json = OptionOf.Flag("--json", "Print the result as JSON.");
        foreach (Option option in (Option[])[model, adapters, type, output, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            string target = context.Get(output)!;
            MergeCommand.RequireOther(target, [.. context.Get(adapters)!.Select(a => AdapterArgument.Parse(a).Directory)]);
            using var opened = new AdaptedModel(DecoderModel.Load(context.Get(model)!, DType.F32, context.Device));
            (string Name, double Weight)[] parts = MergeCommand.LoadAll(opened, context.Get(adapters)!);
            LoraAdapter combined = opened.Combine(
                "combined", parts, context.Get(type) == "linear" ? CombinationType.Linear : CombinationType.Cat);
            AdapterFile.Save(combined, target);
            Print(context, combined, target, context.Get(json));
            return ExitCode.Success;
        });
        return command;
    }

    private static Command CreateImport(GlobalOptions global)
    {
        var command = new Command("import", """
            Makes a PEFT adapter directory of a state dictionary that loralib saved (as safetensors, with keys that end in
            lora_A and lora_B). loralib saves neither alpha nor which parts of a merged layer are adapted: give both.

            Example:
              engine adapters import --model gpt2 --loralib lora.safetensors --alpha 128 --enable-lora true,false,true --out my-adapter
            """);
        var model = OptionOf.Text("--model", "DIR", "Directory of the base model.", required: true);
        var loralib = OptionOf.Text("--loralib", "FILE.safetensors", "loralib's state dictionary.", required: true);
        Option<double?> alpha = OptionOf.OptionalNumber("--alpha", "loralib's lora_alpha.");
        alpha.Required = true;
        var enable = OptionOf.Text("--enable-lora", "true,false,…", "Which groups of a merged layer are adapted (true,false,true as in loralib's GPT-2).");
        var output = OptionOf.Text("--out", "DIR", "Directory for the adapter.", required: true);
        var json = OptionOf.Flag("--json", "Print the result as JSON.");
        foreach (Option option in (Option[])[model, loralib, alpha, enable, output, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            string target = context.Get(output)!;
            double scale = context.Get(alpha)!.Value;
            if (scale <= 0)
            {
                throw new UsageException($"--alpha is {scale}; expected a number above 0");
            }

            bool[]? groups = context.Get(enable) is { } text ? Groups(text) : null;
            using var opened = new AdaptedModel(DecoderModel.Load(context.Get(model)!, DType.F32, context.Device));
            LoraAdapter imported = LoralibImport.Load(opened, "imported", context.Get(loralib)!, scale, groups);
            AdapterFile.Save(imported, target);
            Print(context, imported, target, context.Get(json));
            return ExitCode.Success;
        });
        return command;
    }

    private static void Print(CommandContext context, LoraAdapter adapter, string target, bool json)
    {
        if (!json)
        {
            context.Console.Output.WriteLine(
                $"adapter saved in {target}: {adapter.Layers.Count} modules, rank {adapter.Config.Rank}, {Results.Count(adapter.ParameterCount)} parameters");
            return;
        }

        context.Console.Output.WriteJson(writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("out", target);
            writer.WriteNumber("modules", adapter.Layers.Count);
            writer.WriteNumber("rank", adapter.Config.Rank);
            writer.WriteNumber("parameters", adapter.ParameterCount);
            writer.WriteEndObject();
        });
    }

    private static bool[] Groups(string text) => [.. text.Split(',', StringSplitOptions.TrimEntries).Select(part => part switch
    {
        "true" => true,
        "false" => false,
        _ => throw new UsageException($"--enable-lora is \"{text}\"; expected true and false separated by commas"),
    })];
}

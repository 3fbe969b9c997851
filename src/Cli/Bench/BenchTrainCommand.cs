using System.CommandLine;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary><c>engine bench train</c>: training steps on random tokens.</summary>
internal static class BenchTrainCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("train", """
            Times LoRA training steps of a model on random tokens, all of them labelled: forward, backward and optimizer as
            in engine train. A step's time is that between the starts of two steps. Reports the peak of memory and the time
            from the process's start to the end of the first step too.

            Example:
              engine bench train --model Llama-3.2-1B --batch 8 --length 1024 --rank 16 --json train.json
            """);
        var model = OptionOf.Text("--model", "DIR", "Directory of the model.", required: true);
        var batch = OptionOf.Integer("--batch", "Rows of a batch.", 8, 1);
        var length = OptionOf.Integer("--length", "Tokens of a row.", 512, 2);
        var steps = OptionOf.Integer("--steps", "Timed steps.", 10, 1);
        var warmup = OptionOf.Integer("--warmup", "Steps before them.", 3, 1);
        var rank = OptionOf.Integer("--rank", "Rank of the adapter.", 16, 1);
        var alpha = OptionOf.OptionalNumber("--alpha", "Alpha of the adapter (twice the rank).");
        var targets = OptionOf.Text("--targets", "NAMES", "Modules to adapt: names, a regular expression or all-linear.", @default: "all-linear");
        var full = OptionOf.Flag("--full", "Train every weight instead of an adapter.");
        var checkpointing = OptionOf.Flag("--gradient-checkpointing", "Compute blocks again in the backward pass instead of keeping them.");
        var dtype = OptionOf.DTypeOption("Element type of the base (f32; on a GPU the checkpoint's own if bf16 or f16).");
        var json = OptionOf.Text("--json", "FILE", "Write the figures as JSON.");
        foreach (Option option in (Option[])[model, batch, length, steps, warmup, rank, alpha, targets, full, checkpointing, dtype, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            LoraConfig? adapter = context.Get(full) ? null : new LoraConfig
            {
                Rank = context.Get(rank),
                Alpha = context.Get(alpha) ?? (2 * context.Get(rank)),
                TargetModules = NamesOrPattern.FromText(context.Get(targets)!),
                TaskType = "CAUSAL_LM",
            };
            var bench = new TrainBench(
                context.Get(model)!, adapter, context.Get(dtype), context.Get(batch), context.Get(length), context.Get(warmup), context.Get(steps),
                context.Get(checkpointing));
            TrainBenchResult result = bench.Run(context.Device, context.Console.Cancellation);
            context.Console.WritePairs(result.Pairs());
            if (context.Get(json) is { } path)
            {
                AtomicFile.Write(path, stream => result.Write(stream, bench, context.Device));
            }

            return ExitCode.Success;
        });
        return command;
    }
}

using Engine.Autograd;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>What <c>engine train --dry-run</c> prints.</summary>
internal static class TrainPlan
{
    public static void Write(FineTuning tuning, CommandContext context, bool json)
    {
        IReadOnlyList<Variable> trained = tuning.Run.Trained;
        long trainable = trained.Sum(p => p.Value.Elements);
        long total = tuning.Model.Base.ParameterCount + (tuning.Adapter?.ParameterCount ?? 0);
        long tokens = tuning.Examples.Sum(e => (long)e.Length);
        long labelled = tuning.Examples.Sum(e => (long)e.LabelledTokens);
        MemoryEstimate memory = MemoryEstimate.Of(tuning);
        if (json)
        {
            context.Console.Output.WriteJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteNumber("trainable_parameters", trainable);
                writer.WriteNumber("total_parameters", total);
                writer.WriteNumber("rows", tuning.Examples.Count);
                writer.WriteNumber("tokens", tokens);
                writer.WriteNumber("labelled_tokens", labelled);
                writer.WriteNumber("steps", tuning.Run.TotalSteps);
                writer.WriteStartObject("memory_bytes");
                writer.WriteNumber("weights", memory.Weights);
                writer.WriteNumber("gradients", memory.Gradients);
                writer.WriteNumber("optimizer", memory.Optimizer);
                writer.WriteNumber("activations", memory.Activations);
                writer.WriteNumber("total", memory.Total);
                writer.WriteEndObject();
                writer.WriteStartArray("trained");
                foreach (Variable parameter in trained)
                {
                    writer.WriteStringValue(parameter.Name);
                }

                writer.WriteEndArray();
                writer.WritePropertyName("options");
                writer.WriteRawValue(tuning.Options.ToJson());
                writer.WriteEndObject();
            });
            return;
        }

        context.Console.WriteTable(["trained", "shape", ">parameters", "dtype"], trained.Select(Row));
        context.Console.WritePairs(
        [
            ("trainable", $"{Results.Count(trainable)} of {Results.Count(total)} parameters ({100.0 * trainable / total:0.###}%)"),
            ("data", $"{Results.Count(tuning.Examples.Count)} rows, {Results.Count(tokens)} tokens, {Results.Count(labelled)} of them labelled"),
            ("longest row", $"{tuning.Examples.Max(e => e.Length)} tokens"),
            ("steps", Results.Count(tuning.Run.TotalSteps)),
            ("weights", Results.Bytes(memory.Weights)),
            ("gradients", Results.Bytes(memory.Gradients)),
            ("optimizer", Results.Bytes(memory.Optimizer)),
            ("activations", $"{Results.Bytes(memory.Activations)} (estimate for the largest batch)"),
            ("memory", Results.Bytes(memory.Total)),
        ]);
        if (tuning.Plan is { } plan)
        {
            context.Note(plan.ToString());
        }

        context.Note("dry run: nothing was trained or written");
    }

    private static string[] Row(Variable parameter) =>
        [parameter.Name!, parameter.Value.Shape.ToString(), Results.Count(parameter.Value.Elements), parameter.Value.DType.Name()];
}

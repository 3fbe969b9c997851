using System.Globalization;
using Engine.Lora;

namespace Engine.Cli;

/// <summary>What <c>engine inspect</c> shows of an adapter.</summary>
internal static class InspectAdapter
{
    public static void Run(CommandContext context, string directory, int top, bool json)
    {
        AdapterInspection adapter = AdapterInspection.Read(directory);
        AdaptedModuleSummary[] modules = [.. adapter.Modules.OrderBy(m => m.Path, NaturalOrder.Instance)];
        if (json)
        {
            WriteJson(context, directory, adapter, modules);
            return;
        }

        LoraConfig config = adapter.Config;
        context.Console.WriteTable(
            ["module", "ΔW", ">rank", ">scale", ">‖ΔW‖", "singular values"],
            modules.Select(m => new[]
            {
                m.Path,
                $"[{m.Outputs}, {m.Inputs}]",
                $"{m.Rank}",
                Number(m.Scale),
                Number(m.Norm),
                string.Join(" ", m.SingularValues.Take(top).Select(Number)) + (m.SingularValues.Count > top ? " …" : ""),
            }));
        var pairs = new List<(string, string)>
        {
            ("base", config.BaseModelNameOrPath ?? "(not named)"),
            ("targets", config.TargetModules?.ToString() ?? "(the model type's default)"),
            ("rank, alpha", $"{config.Rank}, {Number(config.Alpha)}{(config.UseRslora ? ", rsLoRA" : "")}{(config.UseDora ? ", DoRA" : "")}"),
            ("dropout", Number(config.Dropout)),
        };
        if (adapter.Copies.Count > 0)
        {
            pairs.Add(("trained whole", string.Join(", ", adapter.Copies)));
        }

        pairs.Add(("parameters", $"{Results.Count(adapter.Parameters)} ({Results.Bytes(adapter.Bytes)})"));
        context.Console.WritePairs(pairs);
        if (config.UseDora)
        {
            context.Note("ΔW of a DoRA module is the change of the direction, before it is normalised and multiplied by the magnitude");
        }
    }

    private static string Number(double value) => value.ToString("0.####", CultureInfo.InvariantCulture);

    private static void WriteJson(CommandContext context, string directory, AdapterInspection adapter, AdaptedModuleSummary[] modules) =>
        context.Console.Output.WriteJson(writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("path", directory);
            writer.WriteString("kind", "adapter");
            writer.WriteNumber("parameters", adapter.Parameters);
            writer.WriteNumber("bytes", adapter.Bytes);
            writer.WriteStartArray("modules");
            foreach (AdaptedModuleSummary module in modules)
            {
                writer.WriteStartObject();
                writer.WriteString("path", module.Path);
                writer.WriteNumber("outputs", module.Outputs);
                writer.WriteNumber("inputs", module.Inputs);
                writer.WriteNumber("rank", module.Rank);
                writer.WriteNumber("scale", module.Scale);
                writer.WriteFinite("norm", module.Norm);
                writer.WriteStartArray("singular_values");
                foreach (double value in module.SingularValues)
                {
                    writer.WriteNumberValue(value);
                }

                writer.WriteEndArray();
                writer.WriteBoolean("dora", module.HasMagnitude);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteStartArray("trained_whole");
            foreach (string copy in adapter.Copies)
            {
                writer.WriteStringValue(copy);
            }

            writer.WriteEndArray();
            writer.WritePropertyName("config");
            writer.WriteRawValue(adapter.Config.ToJson());
            writer.WriteEndObject();
        });
}

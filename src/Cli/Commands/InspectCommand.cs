using System.CommandLine;
using Engine.Lora;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Cli;

/// <summary><c>engine inspect</c>: what a model, an adapter or a safetensors file holds.</summary>
internal static class InspectCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("inspect", """
            Shows what a directory holds. For a model: each parameter with shape and dtype, and totals. For an adapter: its
            configuration, and for each adapted module the Frobenius norm and the singular values of ΔW = scale · B·A (no
            base model is needed). A single safetensors file can be given too.

            Example:
              engine inspect my-adapter
            """);
        var path = new Argument<string>("DIR") { Description = "Directory of a model or an adapter, or a safetensors file." };
        var top = OptionOf.Integer("--top", "Singular values to show for each module.", 4, 1);
        var json = OptionOf.Flag("--json", "Print everything as JSON.");
        command.Add(path);
        command.Add(top);
        command.Add(json);
        global.Handle(command, context =>
        {
            string target = context.Get(path);
            if (File.Exists(Path.Combine(target, LoraConfig.FileName)))
            {
                InspectAdapter.Run(context, target, context.Get(top), context.Get(json));
            }
            else if (File.Exists(target))
            {
                using SafetensorsFile file = SafetensorsFile.Open(target);
                Print(context, target, null, file.Tensors.Values, context.Get(json));
            }
            else
            {
                ModelConfig config = ModelConfig.Load(target);
                using CheckpointReader checkpoint = CheckpointReader.Open(target);
                Print(context, target, config, checkpoint.Tensors.Values, context.Get(json));
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static void Print(
        CommandContext context, string path, ModelConfig? config, IEnumerable<SafetensorsTensor> tensors, bool json)
    {
        SafetensorsTensor[] all = [.. tensors.OrderBy(t => t.Name, NaturalOrder.Instance)];
        long parameters = all.Sum(t => t.ElementCount);
        long bytes = all.Sum(t => t.ByteLength);
        if (json)
        {
            context.Console.Output.WriteJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("path", path);
                writer.WriteString("kind", config is null ? "safetensors" : "model");
                if (config is not null)
                {
                    writer.WriteString("architecture", config.Family.ToString().ToLowerInvariant());
                }

                writer.WriteNumber("parameters", parameters);
                writer.WriteNumber("bytes", bytes);
                writer.WriteStartArray("tensors");
                foreach (SafetensorsTensor tensor in all)
                {
                    writer.WriteStartObject();
                    writer.WriteString("name", tensor.Name);
                    writer.WriteStartArray("shape");
                    foreach (long extent in tensor.Shape)
                    {
                        writer.WriteNumberValue(extent);
                    }

                    writer.WriteEndArray();
                    writer.WriteString("dtype", tensor.DTypeName);
                    writer.WriteEndObject();
                }

                writer.WriteEndArray();
                writer.WriteEndObject();
            });
            return;
        }

        context.Console.WriteTable(
            ["parameter", "shape", "dtype", ">elements"],
            all.Select(t => new[] { t.Name, ErrorText.Shape(t.Shape), t.DTypeName, Results.Count(t.ElementCount) }));
        var pairs = new List<(string, string)>();
        if (config is not null)
        {
            pairs.Add(("architecture", $"{config.Family}, {config.LayerCount} layers, hidden {config.HiddenSize}, heads {config.HeadCount} ({config.KeyValueHeadCount} key/value), head {config.HeadDim}, MLP {config.IntermediateSize}"));
            pairs.Add(("vocabulary", Results.Count(config.VocabularySize)));
            pairs.Add(("longest sequence", Results.Count(config.MaxPositions)));
            pairs.Add(("tied embeddings", config.TieWordEmbeddings ? "yes" : "no"));
        }

        pairs.Add(("parameters", $"{Results.Count(parameters)} in {all.Length} tensors"));
        pairs.Add(("size", string.Join(", ", all.GroupBy(t => t.DTypeName).Select(g => $"{g.Key} {Results.Bytes(g.Sum(t => t.ByteLength))}"))));
        context.Console.WritePairs(pairs);
    }
}

using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Json;
using Engine.Autograd;
using Engine.Kernels;
using Engine.Lora;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Cli;

/// <summary><c>engine logits</c>: the model's raw answers, for comparing with PyTorch.</summary>
internal static class LogitsCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("logits", """
            Computes logits for given token ids and writes them as a safetensors file: one tensor "logits"
            [batch, sequence, vocabulary] in f32. For comparing with PyTorch.

            Example:
              echo '[[1,15043,29892],[1,3186,29991]]' > ids.json
              engine logits --model Llama-3.2-1B --tokens ids.json --out logits.safetensors
            """);
        var model = new ModelOptions();
        var tokens = OptionOf.Text("--tokens", "FILE.json", "A list of equally long lists of token ids.", required: true);
        var output = OptionOf.Text("--out", "FILE.safetensors", "The file to write.", required: true);
        model.AddTo(command);
        command.Add(tokens);
        command.Add(output);
        global.Handle(command, context =>
        {
            ModelConfig config = model.Config(context);
            string path = context.Get(output)!;
            int[][] rows = Read(context.Get(tokens)!, config);
            using AdaptedModel opened = model.Open(context);
            long[] shape = [rows.Length, rows[0].Length, config.VocabularySize];
            CancellationToken cancellation = context.Console.Cancellation;
            SafetensorsWriter.Write(
                path,
                [new SafetensorsEntry("logits", DType.F32, shape, shape[0] * shape[1] * shape[2] * sizeof(float), stream =>
                {
                    // Row by row: one row's logits are in memory at a time.
                    foreach (int[] row in rows)
                    {
                        cancellation.ThrowIfCancellationRequested();
                        stream.Write(MemoryMarshal.AsBytes(Logits(opened.Base, row).AsSpan()));
                    }
                })]);
            context.Note($"logits [{string.Join(", ", shape)}] written to {path}");
            return ExitCode.Success;
        });
        return command;
    }

    private static float[] Logits(DecoderModel model, int[] ids)
    {
        using Tape tape = Tape.Inference();
        using BatchContext batch = BatchContext.Dense(model.Device, 1, ids.Length);
        using Variable hidden = model.Hidden(tape, batch, ids);
        using Variable logits = model.Logits(tape, batch, hidden);
        if (logits.Value.DType == DType.F32)
        {
            return logits.Value.ToArray<float>();
        }

        using Tensor f32 = logits.Value.EmptyLike(DType.F32);
        Cast.Run(logits.Value, f32);
        return f32.ToArray<float>();
    }

    private static int[][] Read(string path, ModelConfig config)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            return Rows(document.RootElement, path, config);
        }
        catch (JsonException error)
        {
            throw new EngineDataException($"{path}: not valid JSON: {ErrorText.Clip(error.Message)}", error);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new EngineDataException($"{path}: there is no such file", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"{path}: cannot be read: {error.Message}", error);
        }
    }

    private static int[][] Rows(JsonElement root, string path, ModelConfig config)
    {
        bool isList = root.ValueKind == JsonValueKind.Array && root.GetArrayLength() > 0 &&
            root.EnumerateArray().All(r => r.ValueKind == JsonValueKind.Array && r.GetArrayLength() > 0);
        if (!isList)
        {
            throw new EngineDataException($"{path}: expected a list of lists of token ids, such as [[1, 2, 3], [4, 5, 6]]");
        }

        int[][] rows = [.. root.EnumerateArray().Select((row, i) => row.EnumerateArray().Select((id, j) => Id(id, path, i, j, config)).ToArray())];
        int different = Array.FindIndex(rows, r => r.Length != rows[0].Length);
        if (different >= 0)
        {
            throw new EngineDataException(
                $"{path}: row {different} has {rows[different].Length} ids and row 0 has {rows[0].Length}; all rows must be equally long");
        }

        return rows[0].Length <= config.MaxPositions
            ? rows
            : throw new EngineDataException(
                $"{path}: the rows have {rows[0].Length} ids; the model's longest sequence is {config.MaxPositions} (max_position_embeddings)");
    }

    private static int Id(JsonElement value, string path, int row, int column, ModelConfig config) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int id) && id >= 0 && id < config.VocabularySize
            ? id
            : throw new EngineDataException(
                $"{path}: [{row}][{column}] is {ErrorText.Clip(value.GetRawText())}; expected a token id from 0 to {config.VocabularySize - 1}");
}

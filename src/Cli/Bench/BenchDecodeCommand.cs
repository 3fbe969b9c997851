using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Engine.Lora;
using Engine.Tensors;
using Engine.Tensors.Cuda;
using Engine.Transformer;

namespace Engine.Cli.Bench;

/// <summary><c>engine bench decode</c>: generation from random prompts.</summary>
internal static class BenchDecodeCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("decode", """
            Times generation from random prompts: the prompts' pass to the first token, then one token a step for all rows,
            the most likely one, without an end. The first run warms up and does not count.

            Example:
              engine bench decode --model Llama-3.2-1B --batch 32 --prompt 128 --tokens 128 --json decode.json
            """);
        var model = new ModelOptions();
        var batch = OptionOf.Integer("--batch", "Rows.", 1, 1);
        var prompt = OptionOf.Integer("--prompt", "Tokens of each prompt.", 128, 1);
        var tokens = OptionOf.Integer("--tokens", "Tokens to generate for each row.", 128, 2);
        var runs = OptionOf.Integer("--runs", "Timed runs.", 3, 1);
        var json = OptionOf.Text("--json", "FILE", "Write the figures as JSON.");
        model.AddTo(command);
        foreach (Option option in (Option[])[batch, prompt, tokens, runs, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            var shape = new DecodeShape(context.Get(batch), context.Get(prompt), context.Get(tokens), context.Get(runs));
            ModelConfig config = model.Config(context);
            if (shape.Prompt + shape.Tokens > config.MaxPositions)
            {
                throw new UsageException(
                    $"--prompt {shape.Prompt} and --tokens {shape.Tokens} make {shape.Prompt + shape.Tokens}; the model's longest sequence is {config.MaxPositions}");
            }

            using AdaptedModel opened = model.Open(context);
            DecodeResult result = Run(opened.Base, shape, context.Console.Cancellation);
            context.Console.WritePairs(result.Pairs(shape));
            if (context.Get(json) is { } path)
            {
                AtomicFile.Write(path, stream => result.Write(stream, model.Directory(context), shape, opened.Base));
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static DecodeResult Run(DecoderModel model, DecodeShape shape, CancellationToken cancellation)
    {
        var random = new Random(0);
        GenerationRequest[] requests = [.. Enumerable.Range(0, shape.Batch).Select(_ => new GenerationRequest(
            [.. Enumerable.Range(0, shape.Prompt).Select(_ => random.Next(model.Config.VocabularySize))]))];
        var options = new GenerationOptions { MaxNewTokens = shape.Tokens };
        var generator = new Generator(model);
        var prefill = new double[shape.Runs];
        var decode = new double[shape.Runs];
        for (int i = -1; i < shape.Runs; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            long first = 0;
            long last = 0;
            int seen = 0;
            generator.Generate(
                requests,
                options,
                _ =>
                {
                    last = Stopwatch.GetTimestamp();
                    first = ++seen == shape.Batch ? last : first;
                },
                cancellation);
            if (i >= 0)
            {
                prefill[i] = Stopwatch.GetElapsedTime(begin, first).TotalMilliseconds;
                decode[i] = Stopwatch.GetElapsedTime(first, last).TotalMilliseconds;
            }
        }

        return new DecodeResult(DeviceTimer.Median(prefill), DeviceTimer.Median(decode) / (shape.Tokens - 1), model.Device.PeakBytes);
    }

    private sealed record DecodeShape(int Batch, int Prompt, int Tokens, int Runs);

    /// <summary>Medians over the runs.</summary>
    /// <param name="PrefillMilliseconds">To the first token of all rows.</param>
    /// <param name="StepMilliseconds">Of one token for all rows.</param>
    /// <param name="PeakBytes">Bytes in tensors at most.</param>
    private sealed record DecodeResult(double PrefillMilliseconds, double StepMilliseconds, long PeakBytes)
    {
        public IEnumerable<(string Name, string Value)> Pairs(DecodeShape shape) =>
        [
            ("prompts", $"{Results.Figure(PrefillMilliseconds)} ms, {Results.Figure(PrefillRate(shape))} tokens/s ({shape.Batch} rows of {shape.Prompt})"),
            ("decoding", $"{Results.Figure(StepMilliseconds)} ms a step, {Results.Figure(DecodeRate(shape))} tokens/s"),
            ("peak memory", $"{Results.Bytes(PeakBytes)} in tensors"),
        ];

        public void Write(Stream stream, string directory, DecodeShape shape, DecoderModel model)
        {
            using var json = new Utf8JsonWriter(stream, Results.Indented);
            json.WriteStartObject();
            json.WriteString("model", Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory))));
            json.WriteNumber("batch", shape.Batch);
            json.WriteNumber("prompt", shape.Prompt);
            json.WriteNumber("tokens", shape.Tokens);
            json.WriteNumber("runs", shape.Runs);
            json.WriteString("dtype", model.DType.Name());
            json.WriteBoolean("graphs", model.Device is CudaDevice { UsesGraphs: true });
            json.WriteNumber("prefill_ms_median", PrefillMilliseconds);
            json.WriteNumber("prefill_tokens_per_second", PrefillRate(shape));
            json.WriteNumber("ms_per_token_median", StepMilliseconds);
            json.WriteNumber("tokens_per_second", DecodeRate(shape));
            json.WriteNumber("peak_allocated_bytes", PeakBytes);
            json.WriteNumber("peak_reserved_bytes", (model.Device as CudaDevice)?.PeakReservedBytes ?? 0);
            BenchMachine.Write(json, model.Device);
            json.WriteEndObject();
        }

        private double PrefillRate(DecodeShape shape) => 1000.0 * shape.Batch * shape.Prompt / PrefillMilliseconds;

        private double DecodeRate(DecodeShape shape) => 1000.0 * shape.Batch / StepMilliseconds;
    }
}

using System.CommandLine;
using Engine.Lora;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli;

/// <summary><c>engine generate</c>: goes on from a prompt.</summary>
internal static class GenerateCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("generate", """
            Generates text from a prompt, token by token as it comes; from token ids it prints token ids. Without sampling
            options it follows the model's generation_config.json, else it takes the most likely token at each step.

            Examples:
              engine generate --model Llama-3.2-1B --adapter my-adapter --prompt "Question: …" --max-new-tokens 64
              engine generate --model Llama-3.2-1B --tokens 1,15043,29892 --max-new-tokens 16
            """);
        var model = new ModelOptions();
        var prompt = new PromptOptions();
        var sampling = new SamplingOptions();
        var json = OptionOf.Flag("--json", "Print ids, text and the reason for stopping as JSON, at the end.");
        model.AddTo(command);
        prompt.AddTo(command);
        sampling.AddTo(command);
        command.Add(json);
        global.Handle(command, context =>
        {
            ModelConfig config = model.Config(context);
            Tokenizer? tokenizer = model.Tokenizer(context);
            (int[] ids, bool isText) = prompt.Read(context, config, tokenizer);
            GenerationOptions options = sampling.Read(context, config, model.Directory(context), isText ? tokenizer : null);
            using AdaptedModel opened = model.Open(context);
            return Run(context, new Generator(opened.Base, isText ? tokenizer : null), ids, options, context.Get(json));
        });
        return command;
    }

    private static int Run(CommandContext context, Generator generator, int[] ids, GenerationOptions options, bool json)
    {
        TextWriter output = context.Console.Output;
        bool first = true;
        GenerationResult result = generator.Generate(
            ids,
            options,
            json ? null : token =>
            {
                output.Write(token.Text ?? (first ? $"{token.Id}" : $",{token.Id}"));
                output.Flush();
                first = false;
            },
            context.Console.Cancellation);
        if (!json)
        {
            output.WriteLine();
            return ExitCode.Success;
        }

        output.WriteJson(writer =>
        {
            writer.WriteStartObject();
            writer.WriteStartArray("prompt_tokens");
            Array.ForEach(ids, writer.WriteNumberValue);
            writer.WriteEndArray();
            writer.WriteStartArray("tokens");
            foreach (int id in result.Ids)
            {
                writer.WriteNumberValue(id);
            }

            writer.WriteEndArray();
            if (result.Text is not null)
            {
                writer.WriteString("text", result.Text);
            }

            writer.WriteString("finish", result.Finish switch
            {
                FinishReason.StopToken => "stop_token",
                FinishReason.StopString => "stop_string",
                _ => "length",
            });
            writer.WriteEndObject();
        });
        return ExitCode.Success;
    }
}

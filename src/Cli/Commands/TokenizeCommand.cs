using System.CommandLine;
using System.Text.Json;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli;

/// <summary><c>engine tokenize</c>: text to token ids and back.</summary>
internal static class TokenizeCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("tokenize", """
            Reads JSON strings, one a line, from standard input and prints one JSON list of token ids a line; with
            --decode reads lists and prints strings.

            Example:
              echo '"Hello, world"' | engine tokenize --model Llama-3.2-1B
            """);
        var model = OptionOf.Text("--model", "DIR|tokenizer.json", "Directory of a model, or a tokenizer.json.", required: true);
        var decode = OptionOf.Flag("--decode", "Turn lists of ids into strings.");
        var bare = OptionOf.Flag("--no-special-tokens", "Do not put the tokenizer's own template (a start token, say) around the text.");
        var keep = OptionOf.Flag("--keep-special-tokens", "With --decode: show special tokens instead of leaving them out.");
        foreach (Option option in (Option[])[model, decode, bare, keep])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            if (context.Get(decode) ? context.Get(bare) : context.Get(keep))
            {
                throw new UsageException("--no-special-tokens goes with encoding, --keep-special-tokens with --decode");
            }

            var tokenizer = Tokenizer.Load(context.Get(model)!);
            Func<JsonElement, int, string> convert = context.Get(decode)
                ? (value, line) => Decode(tokenizer, value, line, context.Get(keep))
                : (value, line) => Encode(tokenizer, value, line, !context.Get(bare));
            int number = 0;
            while (context.Console.Input.ReadLine() is { } text)
            {
                number++;
                if (!string.IsNullOrWhiteSpace(text))
                {
                    context.Console.Output.WriteLine(Convert(text, number, convert));
                }
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static string Convert(string text, int line, Func<JsonElement, int, string> convert)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            return convert(document.RootElement, line);
        }
        catch (JsonException error)
        {
            throw new EngineDataException($"standard input, line {line}: not valid JSON: {ErrorText.Clip(text)}", error);
        }
        catch (InvalidOperationException error)
        {
            throw new EngineDataException($"standard input, line {line}: the string holds an escape that is no Unicode character", error);
        }
    }

    private static string Encode(Tokenizer tokenizer, JsonElement value, int line, bool special)
    {
        if (value.ValueKind != JsonValueKind.String)
        {
            throw new EngineDataException($"standard input, line {line}: {ErrorText.Clip(value.GetRawText())}; expected a JSON string");
        }

        return $"[{string.Join(",", tokenizer.Encode(value.GetString()!, special))}]";
    }

    private static string Decode(Tokenizer tokenizer, JsonElement value, int line, bool keep)
    {
        var ids = new List<int>();
        foreach (JsonElement item in value.ValueKind == JsonValueKind.Array ? value.EnumerateArray() : default)
        {
            ids.Add(item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out int id) && id >= 0 && id < tokenizer.IdLimit
                ? id
                : throw new EngineDataException(
                    $"standard input, line {line}: {ErrorText.Clip(item.GetRawText())}; expected a token id from 0 to {tokenizer.IdLimit - 1}"));
        }

        return value.ValueKind == JsonValueKind.Array
            ? Results.JsonLine(json => json.WriteStringValue(tokenizer.Decode([.. ids], skipSpecialTokens: !keep)))
            : throw new EngineDataException($"standard input, line {line}: {ErrorText.Clip(value.GetRawText())}; expected a JSON list of token ids");
    }
}

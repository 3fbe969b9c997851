using System.CommandLine;
using System.Globalization;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli;

/// <summary>Where a prompt comes from: a text, a file or token ids.</summary>
internal sealed class PromptOptions
{
    private readonly Option<string> _text = OptionOf.Text("--prompt", "TEXT", "The text to go on from.");
    private readonly Option<string> _file = OptionOf.Text("--prompt-file", "FILE", "File with the text to go on from; - for standard input.");
    private readonly Option<string> _tokens = OptionOf.Text("--tokens", "1,2,3", "Token ids to go on from; ids are printed too.");
    private readonly Option<bool> _chat = OptionOf.Flag("--chat", "Put the text as a user's question in the model's chat template.");

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])[_text, _file, _tokens, _chat])
        {
            command.Add(option);
        }
    }

    /// <summary>The prompt's ids, and whether it was a text.</summary>
    /// <exception cref="UsageException">Not exactly one prompt was given, or the ids are malformed.</exception>
    /// <exception cref="EngineDataException">The file cannot be read, an id is out of range, or there is no tokenizer.</exception>
    public (int[] Ids, bool IsText) Read(CommandContext context, ModelConfig config, Tokenizer? tokenizer)
    {
        Option[] given = [.. ((Option[])[_text, _file, _tokens]).Where(context.IsGiven)];
        if (given.Length != 1)
        {
            throw new UsageException(given.Length == 0
                ? "a prompt is missing: give --prompt TEXT, --prompt-file FILE or --tokens 1,2,3"
                : $"{given[0].Name} and {given[1].Name} exclude each other: give one prompt");
        }

        if (context.Get(_tokens) is { } ids)
        {
            return context.Get(_chat)
                ? throw new UsageException("--chat goes with a text, not with --tokens")
                : (Parse(ids), false);
        }

        if (tokenizer is null)
        {
            throw new EngineDataException("the model has no tokenizer.json to turn the prompt into tokens; give --tokens instead");
        }

        string text = context.Get(_text) ?? ReadFile(context, context.Get(_file)!);
        IReadOnlyList<TextSegment> segments = context.Get(_chat)
            ? new TemplateChat(tokenizer).Question(text)
            : [new TextSegment(text, IsCompletion: false)];

        // The same way as a row's prompt in training: the start token that the tokenizer's template puts in front, no end token.
        return (new DataLoader(config, tokenizer).Builder.Prompt(new DataRow { Source = "prompt", Segments = segments }), true);
    }

    private static string ReadFile(CommandContext context, string path)
    {
        try
        {
            return path == "-" ? context.Console.Input.ReadToEnd() : File.ReadAllText(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"{path}: cannot be read: {error.Message}", error);
        }
    }

    private static int[] Parse(string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries);
        var ids = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (!int.TryParse(parts[i], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out ids[i]))
            {
                throw new UsageException($"--tokens: entry {i + 1} is \"{parts[i]}\"; expected token ids separated by commas, such as 1,2,3");
            }
        }

        return ids;
    }
}

using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>What a tokenizer.json says, ready to run.</summary>
internal sealed record TokenizerParts(
    BpeModel Model,
    AddedVocabulary Added,
    Normalizer? Normalizer,
    PreTokenizer? PreTokenizer,
    PostProcessor PostProcessor,
    TokenDecoder? Decoder);

/// <summary>
/// Reads tokenizer.json as the `tokenizers` library 0.23 does. A part that is not supported is an error that names the
/// field, the value and what is supported; nothing is skipped silently except "truncation" and "padding", which concern
/// batches and which `transformers` resets too.
/// </summary>
internal static partial class TokenizerJsonReader
{
    public static TokenizerParts Read(string file)
    {
        using System.Text.Json.JsonDocument document = JsonField.ReadDocument(file);
        var root = new JsonField(file, "", document.RootElement);
        if (root.Optional("version") is JsonField version && version.Text() != "1.0")
        {
            throw version.Error($"{version.Describe()} is not supported (supported: \"1.0\")");
        }

        BpeModel model = ReadModel(root.Required("model"));
        Normalizer? normalizer = root.Optional("normalizer") is JsonField n ? ReadNormalizer(n) : null;
        var added = new AddedVocabulary(ReadAddedTokens(root, model), normalizer);
        return new TokenizerParts(
            model,
            added,
            normalizer,
            root.Optional("pre_tokenizer") is JsonField pre ? ReadPreTokenizer(pre) : null,
            root.Optional("post_processor") is JsonField post ? ReadPostProcessor(post) : PostProcessor.None,
            root.Optional("decoder") is JsonField decoder ? ReadDecoder(decoder) : null);
    }

    private static List<AddedToken> ReadAddedTokens(JsonField root, BpeModel model)
    {
        var tokens = new List<AddedToken>();
        if (root.Optional("added_tokens") is not JsonField list)
        {
            return tokens;
        }

        var owners = new Dictionary<int, string>();
        foreach (JsonField item in list.Items())
        {
            JsonField idField = item.Required("id");
            var token = new AddedToken(
                idField.Number(),
                item.Required("content").Text(),
                item.Flag("single_word", false),
                item.Flag("lstrip", false),
                item.Flag("rstrip", false),
                item.Flag("normalized", true),
                item.Flag("special", false));
            if (token.Content.Length == 0)
            {
                continue; // the reference ignores them too
            }

            if (model.TryGetId(token.Content, out int modelId) && modelId != token.Id)
            {
                throw idField.Error($"{token.Id} for {Quote(token.Content)}, but \"model.vocab\" gives it the id {modelId}");
            }

            string? other = owners.GetValueOrDefault(token.Id) ?? model.Tokens.GetValueOrDefault(token.Id);
            if (other is not null && other != token.Content)
            {
                throw idField.Error($"{token.Id} for {Quote(token.Content)} already belongs to {Quote(other)}");
            }

            owners[token.Id] = token.Content;
            tokens.Add(token);
        }

        return tokens;
    }

    private static string Quote(string text) => $"\"{(text.Length <= 60 ? text : text[..57] + "...")}\"";

    private static EngineDataException Unsupported(JsonField field, string supported) =>
        field.Error($"{field.Describe()} is not supported (supported: {supported})");

    /// <summary>{"String": …} or {"Regex": …}.</summary>
    private static SplitPattern ReadPattern(JsonField field)
    {
        if (field.Optional("String") is JsonField literal)
        {
            return SplitPattern.Literal(literal.Text());
        }

        if (field.Optional("Regex") is not JsonField regex)
        {
            throw Unsupported(field, "{\"String\": …}, {\"Regex\": …}");
        }

        try
        {
            return SplitPattern.Parse(regex.Text());
        }
        catch (FormatException error)
        {
            throw new EngineDataException(regex.Error($"cannot use this pattern: {error.Message}").Message, error);
        }
    }

    private static List<T> ReadList<T>(JsonField list, Func<JsonField, T> read) => list.Items().ConvertAll(item => read(item));
}

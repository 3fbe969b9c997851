using System.Text.Json;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// The roles that tokens play, as far as the files tell: tokenizer_config.json first, then special_tokens_map.json, then
/// (for the beginning and the end of a text) the template that tokenizer.json puts around a sequence.
/// </summary>
public sealed record SpecialTokens
{
    /// <summary>Id of the token that begins a text (`bos_token`), if any.</summary>
    public int? BeginningOfSequence { get; init; }

    /// <summary>Id of the token that ends a text (`eos_token`), if any.</summary>
    public int? EndOfSequence { get; init; }

    /// <summary>Id of the token that fills short rows of a batch (`pad_token`), if any.</summary>
    public int? Padding { get; init; }

    /// <summary>Id of the token for what the vocabulary lacks (`unk_token`), if any.</summary>
    public int? Unknown { get; init; }

    internal static SpecialTokens Read(string directory, TokenizerParts parts, Func<string, int?> idOf)
    {
        var names = new Dictionary<string, string>();
        foreach (string file in new[] { "tokenizer_config.json", "special_tokens_map.json" })
        {
            string path = Path.Combine(directory, file);
            if (!File.Exists(path))
            {
                continue;
            }

            using JsonDocument document = JsonField.ReadDocument(path);
            var root = new JsonField(path, "", document.RootElement);
            foreach (string role in new[] { "bos_token", "eos_token", "pad_token", "unk_token" })
            {
                if (root.Optional(role) is JsonField value)
                {
                    // A plain string, or an object with the token's options.
                    JsonField content = value.Element.ValueKind == JsonValueKind.Object ? value.Required("content") : value;
                    names.TryAdd(role, content.Text());
                }
            }
        }

        int? Role(string role) => names.TryGetValue(role, out string? token) ? idOf(token) : null;
        return new SpecialTokens
        {
            BeginningOfSequence = Role("bos_token") ?? (parts.PostProcessor.Before is [int first, ..] ? first : null),
            EndOfSequence = Role("eos_token") ?? (parts.PostProcessor.After is [.., int last] ? last : null),
            Padding = Role("pad_token"),
            Unknown = Role("unk_token") ?? parts.Model.Options.UnknownId,
        };
    }
}

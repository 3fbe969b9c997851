using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">"system", "user" or "assistant".</param>
/// <param name="Content">What was said.</param>
public readonly record struct ChatMessage(string Role, string Content);

/// <summary>A stretch of a formatted conversation.</summary>
/// <param name="Text">The text, special tokens written out.</param>
/// <param name="IsCompletion">Whether it is what the assistant says (its end token included), to be learned.</param>
public readonly record struct ChatSegment(string Text, bool IsCompletion);

/// <summary>
/// How a model wants conversations written. Templates are Jinja programs in general; this recognises the common ones by
/// their marks and writes them directly. The text holds the beginning token where the format has one, so encode it with
/// addSpecialTokens: false.
/// </summary>
public sealed partial class ChatFormat
{
    private const string Known =
        "known: ChatML (<|im_start|>, as in Qwen2 and Qwen3), Llama 3 (<|start_header_id|>), Llama 2 and Mistral ([INST])";

    private readonly string _template;
    private readonly string _begin;
    private readonly string _end;
    private readonly Kind _kind;

    private ChatFormat(Kind kind, string template, string begin, string end)
    {
        _kind = kind;
        _template = template;
        _begin = begin;
        _end = end;
    }

    private enum Kind
    {
        ChatMl,
        Llama3,
        Llama2,
        Mistral,
    }

    /// <summary>The format's name: "ChatML", "Llama 3", "Llama 2" or "Mistral".</summary>
    public string Name => _kind switch
    {
        Kind.ChatMl => "ChatML",
        Kind.Llama3 => "Llama 3",
        Kind.Llama2 => "Llama 2",
        _ => "Mistral",
    };

    /// <summary>
    /// Recognises the format of a model directory: by `chat_template` in tokenizer_config.json or the file
    /// chat_template.jinja, else by the special tokens of the vocabulary.
    /// </summary>
    /// <exception cref="EngineDataException">The template, or the lack of one, is not recognised; the message lists the known ones.</exception>
    public static ChatFormat Detect(Tokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        string directory = Path.GetDirectoryName(Path.GetFullPath(tokenizer.File))!;
        (string? template, string source) = ReadTemplate(directory);
        bool Has(string mark) => template?.Contains(mark, StringComparison.Ordinal) ?? tokenizer.TokenToId(mark) is not null;

        Kind kind;
        if (Has("<|im_start|>") && Has("<|im_end|>"))
        {
            kind = Kind.ChatMl;
        }
        else if (Has("<|start_header_id|>") && Has("<|eot_id|>"))
        {
            kind = Kind.Llama3;
        }
        else if (template is not null && Has("[INST]") && Has("<<SYS>>"))
        {
            kind = Kind.Llama2;
        }
        else if (Has("[INST]"))
        {
            kind = Kind.Mistral;
        }
        else
        {
            throw new EngineDataException(
                template is null
                    ? $"{directory} has no chat template and its vocabulary none of the known marks ({Known}); give the data as prompt and completion instead of messages"
                    : $"{source}: field \"chat_template\": this template is not recognised ({Known}); give the data as prompt and completion instead of messages");
        }

        string begin = NameOf(tokenizer, tokenizer.SpecialTokens.BeginningOfSequence) ?? (kind == Kind.Llama3 ? "<|begin_of_text|>" : "<s>");
        string end = NameOf(tokenizer, tokenizer.SpecialTokens.EndOfSequence) ?? "</s>";
        return new ChatFormat(kind, template ?? "", begin, end);
    }

    /// <summary>Writes a conversation; concatenated, the segments are the template's output.</summary>
    /// <param name="messages">The turns; an optional "system" first, then user and assistant in turn for [INST] formats.</param>
    /// <param name="addGenerationPrompt">Whether the beginning of an assistant's turn follows, for the model to go on from.</param>
    /// <exception cref="EngineDataException">A role is unknown, or the turns are in an order the format cannot express.</exception>
    public IReadOnlyList<ChatSegment> Format(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = false)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0)
        {
            throw new EngineDataException("\"messages\" is empty; at least one user message is needed");
        }

        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].Role is not ("user" or "assistant") && !(messages[i].Role == "system" && i == 0))
            {
                throw new EngineDataException(
                    $"\"messages[{i}].role\": \"{messages[i].Role}\" cannot be used (supported: system as the first message, user, assistant)");
            }
        }

        var segments = new List<ChatSegment>();
        switch (_kind)
        {
            case Kind.ChatMl:
                FormatChatMl(messages, addGenerationPrompt, segments);
                break;
            case Kind.Llama3:
                FormatLlama3(messages, addGenerationPrompt, segments);
                break;
            default:
                FormatInst(messages, segments);
                break;
        }

        return Join(segments);
    }

    private static string? NameOf(Tokenizer tokenizer, int? id) => id is int known ? tokenizer.IdToToken(known) : null;

    private static (string? Template, string Source) ReadTemplate(string directory)
    {
        string jinja = Path.Combine(directory, "chat_template.jinja");
        if (File.Exists(jinja))
        {
            return (File.ReadAllText(jinja), jinja);
        }

        string config = Path.Combine(directory, "tokenizer_config.json");
        if (!File.Exists(config))
        {
            return (null, config);
        }

        using JsonDocument document = JsonField.ReadDocument(config);
        if (new JsonField(config, "", document.RootElement).Optional("chat_template") is not JsonField field)
        {
            return (null, config);
        }

        if (field.Element.ValueKind == JsonValueKind.String)
        {
            return (field.Text(), config);
        }

        // Several templates by name: the one called "default".
        foreach (JsonField item in field.Items())
        {
            if (item.Required("name").Text() == "default")
            {
                return (item.Required("template").Text(), config);
            }
        }

        throw field.Error("no template is named \"default\"");
    }

    /// <summary>Neighbouring segments of one kind become one; empty ones vanish.</summary>
    private static List<ChatSegment> Join(List<ChatSegment> segments)
    {
        var joined = new List<ChatSegment>();
        foreach (ChatSegment segment in segments.Where(s => s.Text.Length > 0))
        {
            if (joined.Count > 0 && joined[^1].IsCompletion == segment.IsCompletion)
            {
                joined[^1] = new ChatSegment(joined[^1].Text + segment.Text, segment.IsCompletion);
            }
            else
            {
                joined.Add(segment);
            }
        }

        return joined;
    }
}

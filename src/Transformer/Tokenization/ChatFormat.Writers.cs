using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <content>The formats themselves.</content>
public sealed partial class ChatFormat
{
    // What Llama 3.1's template says when no date is given.
    private const string LlamaDate = "26 Jul 2024";

    private void FormatChatMl(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, List<ChatSegment> segments)
    {
        if (messages[0].Role != "system" && DefaultSystemPrompt() is string prompt)
        {
            segments.Add(new ChatSegment($"<|im_start|>system\n{prompt}<|im_end|>\n", false));
        }

        // Qwen3: the answer to the last question carries its reasoning, earlier answers lose theirs.
        bool reasons = _template.Contains("</think>", StringComparison.Ordinal);
        int lastQuestion = messages.Select((m, i) => m.Role == "user" ? i : -1).Max();
        for (int i = 0; i < messages.Count; i++)
        {
            ChatMessage message = messages[i];
            bool answer = message.Role == "assistant";
            string content = message.Content;
            if (answer && reasons)
            {
                (string reasoning, content) = SplitReasoning(content);
                if (i > lastQuestion && (i == messages.Count - 1 || reasoning.Length > 0))
                {
                    content = $"<think>\n{reasoning.Trim('\n')}\n</think>\n\n{content.TrimStart('\n')}";
                }
            }

            segments.Add(new ChatSegment($"<|im_start|>{message.Role}\n", false));
            segments.Add(new ChatSegment($"{content}<|im_end|>", answer));
            segments.Add(new ChatSegment("\n", false));
        }

        segments.Add(new ChatSegment(addGenerationPrompt ? "<|im_start|>assistant\n" : "", false));
    }

    private string? DefaultSystemPrompt()
    {
        foreach (string prompt in new[]
        {
            "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
            "You are a helpful assistant.",
        })
        {
            if (_template.Contains(prompt, StringComparison.Ordinal))
            {
                return prompt;
            }
        }

        return null;
    }

    private static (string Reasoning, string Content) SplitReasoning(string content)
    {
        int close = content.IndexOf("</think>", StringComparison.Ordinal);
        if (close < 0)
        {
            return ("", content);
        }

        string before = content[..close].TrimEnd('\n');
        int open = before.LastIndexOf("<think>", StringComparison.Ordinal);
        string reasoning = (open < 0 ? before : before[(open + "<think>".Length)..]).TrimStart('\n');
        int last = content.LastIndexOf("</think>", StringComparison.Ordinal);
        return (reasoning, content[(last + "</think>".Length)..].TrimStart('\n'));
    }

    private void FormatLlama3(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt, List<ChatSegment> segments)
    {
        segments.Add(new ChatSegment(_begin, false));
        int first = 0;
        if (_template.Contains("Cutting Knowledge Date", StringComparison.Ordinal))
        {
            // Llama 3.1 and later always have a system turn with the dates.
            bool given = messages[0].Role == "system";
            first = given ? 1 : 0;
            segments.Add(new ChatSegment(
                "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
                + $"Today Date: {LlamaDate}\n\n{(given ? messages[0].Content.Trim() : "")}<|eot_id|>", false));
        }

        foreach (ChatMessage message in messages.Skip(first))
        {
            segments.Add(new ChatSegment($"<|start_header_id|>{message.Role}<|end_header_id|>\n\n", false));
            segments.Add(new ChatSegment($"{message.Content.Trim()}<|eot_id|>", message.Role == "assistant"));
        }

        segments.Add(new ChatSegment(addGenerationPrompt ? "<|start_header_id|>assistant<|end_header_id|>\n\n" : "", false));
    }

    /// <summary>Llama 2 and Mistral. An answer follows the closing mark directly, so no generation prompt is needed.</summary>
    private void FormatInst(IReadOnlyList<ChatMessage> messages, List<ChatSegment> segments)
    {
        bool llama = _kind == Kind.Llama2;
        // Mistral's templates differ in the blanks around the marks; the template itself shows which it uses.
        bool blankBeforeClose = llama || _template.Length == 0 || _template.Contains(" [/INST]", StringComparison.Ordinal);
        bool blankBeforeAnswer = llama || _template.Contains("\" \" + message", StringComparison.Ordinal)
            || _template.Contains("' ' + message", StringComparison.Ordinal);
        string system = messages[0].Role == "system" ? messages[0].Content : "";
        int first = messages[0].Role == "system" ? 1 : 0;
        segments.Add(new ChatSegment(llama ? "" : _begin, false));
        for (int i = first; i < messages.Count; i++)
        {
            bool answer = messages[i].Role == "assistant";
            if (answer != ((i - first) % 2 == 1))
            {
                throw new EngineDataException(
                    $"\"messages[{i}].role\": \"{messages[i].Role}\" where {Name}'s format needs \"{(answer ? "user" : "assistant")}\": "
                    + "user and assistant take turns, the user first");
            }

            string content = llama ? messages[i].Content.Trim() : messages[i].Content;
            if (answer)
            {
                segments.Add(new ChatSegment(blankBeforeAnswer ? " " : "", false));
                segments.Add(new ChatSegment($"{content}{(llama ? " " : "")}{_end}", true));
                continue;
            }

            if (i == first && system.Length > 0)
            {
                content = llama ? $"<<SYS>>\n{system}\n<</SYS>>\n\n{messages[i].Content}".Trim() : $"{system}\n\n{content}";
            }

            segments.Add(new ChatSegment($"{(llama ? _begin : "")}[INST] {content}{(blankBeforeClose ? " " : "")}[/INST]", false));
        }
    }
}

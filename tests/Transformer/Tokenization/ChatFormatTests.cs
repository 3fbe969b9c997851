using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>Each known template is recognised and written as its Jinja source would write it.</summary>
[Trait("Device", "Cpu")]
public class ChatFormatTests
{
    private static readonly ChatMessage[] Talk =
    [
        new("system", "Be brief."), new("user", "Hi "), new("assistant", "Hello"), new("user", "Bye"), new("assistant", "See you"),
    ];

    [Fact]
    public void ChatMl_marks_what_the_assistant_says()
    {
        ChatFormat format = Detect("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}");
        Assert.Equal("ChatML", format.Name);
        Assert.Equal(
            [
                new("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n", false),
                new("Hello<|im_end|>", true),
                new("\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n", false),
                new("See you<|im_end|>", true),
                new("\n", false),
            ],
            format.Format(Talk));
        Assert.Equal(
            "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n",
            Text(format.Format([Talk[1]], addGenerationPrompt: true)));
    }

    [Fact]
    public void ChatMl_takes_the_default_system_prompt_from_the_template()
    {
        ChatFormat format = Detect("{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}");
        Assert.Equal(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n",
            Text(format.Format([Talk[1]])));
        Assert.StartsWith("<|im_start|>system\nBe brief.<|im_end|>\n", Text(format.Format(Talk)), StringComparison.Ordinal);
    }

    [Fact]
    public void Qwen3_keeps_reasoning_only_after_the_last_question()
    {
        ChatFormat format = Detect("<|im_start|> <|im_end|> content.split('</think>')");
        Assert.Equal(
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
            + "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think>\nwhy\n</think>\n\nd<|im_end|>\n",
            Text(format.Format(
            [
                new("user", "a"), new("assistant", "<think>\nx\n</think>\n\nb"),
                new("user", "c"), new("assistant", "<think>\nwhy\n</think>\n\nd"),
            ])));
        Assert.Equal(
            "<think>\n\n</think>\n\nb<|im_end|>",
            format.Format([new("user", "a"), new("assistant", "b")]).Single(s => s.IsCompletion).Text);
    }

    [Fact]
    public void Llama3_trims_contents_and_begins_with_its_token()
    {
        ChatFormat format = Detect("{{ bos_token }}<|start_header_id|>{{ role }}<|end_header_id|>\n\n{{ content | trim }}<|eot_id|>", "<|begin_of_text|>");
        Assert.Equal("Llama 3", format.Name);
        IReadOnlyList<ChatSegment> segments = format.Format(Talk);
        Assert.Equal(
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            + "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            segments[0].Text);
        Assert.Equal(new ChatSegment("Hello<|eot_id|>", true), segments[1]);
        Assert.Equal(new ChatSegment("See you<|eot_id|>", true), segments[^1]);

        ChatFormat dated = Detect("Cutting Knowledge Date <|start_header_id|> <|eot_id|>", "<|begin_of_text|>");
        Assert.StartsWith(
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
            + "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user",
            Text(dated.Format([Talk[1]])),
            StringComparison.Ordinal);
    }

    [Fact]
    public void Llama2_puts_the_system_prompt_into_the_first_question()
    {
        ChatFormat format = Detect("{{ bos_token + '[INST] ' + '<<SYS>>' + ' [/INST]' }}", "<s>", "</s>");
        Assert.Equal("Llama 2", format.Name);
        Assert.Equal(
            [
                new("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] ", false), new("Hello </s>", true),
                new("<s>[INST] Bye [/INST] ", false), new("See you </s>", true),
            ],
            format.Format(Talk));
    }

    [Fact]
    public void Mistral_follows_the_blanks_of_its_template()
    {
        ChatFormat wide = Detect("{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}", "<s>", "</s>");
        Assert.Equal("Mistral", wide.Name);
        Assert.Equal("<s>[INST] Hi  [/INST]Hello</s>[INST] Bye [/INST]See you</s>", Text(wide.Format(Talk[1..])));
        ChatFormat tight = Detect("{{ bos_token }}{{ '[INST] ' + message['content'] + '[/INST]' }}{{ ' ' + message['content'] + eos_token }}", "<s>", "</s>");
        Assert.Equal("<s>[INST] Bye[/INST] See you</s>", Text(tight.Format(Talk[3..])));
        EngineDataException error = Assert.Throws<EngineDataException>(() => tight.Format([Talk[1], Talk[1]]));
        Assert.Contains("messages[1].role", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_template_the_vocabulary_decides()
    {
        using var small = new SmallTokenizer();
        Assert.Equal("ChatML", ChatFormat.Detect(small.Load(SmallTokenizer.Json(["<|im_start|>", "<|im_end|>"], []))).Name);
        Assert.Equal("Llama 3", ChatFormat.Detect(small.Load(SmallTokenizer.Json(["<|start_header_id|>", "<|eot_id|>"], []))).Name);
        Assert.Equal("Mistral", ChatFormat.Detect(small.Load(SmallTokenizer.Json(["[INST]"], []))).Name);
        EngineDataException error = Assert.Throws<EngineDataException>(() => ChatFormat.Detect(small.Load(SmallTokenizer.Json(["a"], []))));
        Assert.Contains("ChatML", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unknown_template_or_role_is_an_error_that_lists_the_known_ones()
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => Detect("{{ '### Question' }}"));
        Assert.Contains("tokenizer_config.json", error.Message, StringComparison.Ordinal);
        Assert.Contains("Llama 3", error.Message, StringComparison.Ordinal);
        ChatFormat format = Detect("<|im_start|><|im_end|>");
        Assert.Contains("tool", Assert.Throws<EngineDataException>(() => format.Format([new("user", "a"), new("tool", "b")])).Message, StringComparison.Ordinal);
        Assert.Throws<EngineDataException>(() => format.Format([]));
    }

    private static string Text(IEnumerable<ChatSegment> segments) => string.Concat(segments.Select(s => s.Text));

    private static ChatFormat Detect(string template, string? bos = null, string? eos = null)
    {
        using var small = new SmallTokenizer();
        Dictionary<string, string?> config = new() { ["chat_template"] = template, ["bos_token"] = bos, ["eos_token"] = eos };
        File.WriteAllText(Path.Combine(small.DirectoryPath, "tokenizer_config.json"), JsonSerializer.Serialize(config));
        return ChatFormat.Detect(small.Load(SmallTokenizer.Json(["a", "<s>", "</s>", "<|begin_of_text|>"], [])));
    }
}

using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Lora.Tests.Data;

public class TemplateChatTests
{
    private const string Mistral = "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}";

    private static readonly ModelConfig s_config = new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = 300,
        HiddenSize = 8,
        LayerCount = 1,
        HeadCount = 1,
        KeyValueHeadCount = 1,
        HeadDim = 8,
        IntermediateSize = 8,
        MaxPositions = 200,
    };

    [Fact]
    public void A_conversation_has_one_beginning_and_one_end_and_its_answers_are_learned()
    {
        using var directory = new TemporaryDirectory();
        Tokenizer tokenizer = Write(directory, Mistral);
        string data = directory.Write("chat.jsonl", """
            {"messages":[{"role":"user","content":"a b"},{"role":"assistant","content":"c"},{"role":"user","content":"d"},{"role":"assistant","content":"e f"}]}
            """);
        Example example = Assert.Single(new DataLoader(s_config, tokenizer).Examples(data));
        Assert.Equal(0, example.Tokens[0]);
        Assert.Equal(1, example.Tokens[^1]);
        Assert.Equal(1, example.Tokens.Count(id => id == 0));
        Assert.Equal(2, example.Tokens.Count(id => id == 1));
        int[] learned = [.. example.Labels.Where(label => label != Example.IgnoredLabel)];
        Assert.Equal("c</s>e f</s>", tokenizer.Decode(learned, skipSpecialTokens: false));
        Assert.Equal("<s>[INST] a b [/INST]c</s>[INST] d [/INST]e f</s>", tokenizer.Decode(example.Tokens, skipSpecialTokens: false));
    }

    [Fact]
    public void A_question_ends_where_the_answer_begins()
    {
        using var directory = new TemporaryDirectory();
        Tokenizer tokenizer = Write(directory, Mistral);
        IReadOnlyList<TextSegment> segments = new TemplateChat(tokenizer).Question("why?");
        Assert.Equal([new TextSegment("[INST] why? [/INST]", false)], segments);
        int[] prompt = new DataLoader(s_config, tokenizer).Builder.Prompt(new DataRow { Source = "prompt", Segments = segments });
        Assert.Equal("<s>[INST] why? [/INST]", tokenizer.Decode(prompt, skipSpecialTokens: false));
    }

    [Fact]
    public void An_unknown_template_is_an_error_of_the_row_only_when_there_are_conversations()
    {
        using var directory = new TemporaryDirectory();
        var loader = new DataLoader(s_config, Write(directory, "{{ something else }}"));
        Assert.Single(loader.Examples(directory.Write("text.jsonl", """{"text":"plain"}""")));
        string chat = directory.Write("chat.jsonl", """{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}""");
        string message = Assert.Throws<EngineDataException>(() => loader.Examples(chat)).Message;
        Assert.Contains("chat.jsonl:1", message, StringComparison.Ordinal);
        Assert.Contains("chat_template", message, StringComparison.Ordinal);
    }

    private static Tokenizer Write(TemporaryDirectory directory, string template)
    {
        var trainer = new BpeTrainer(270, BpeTrainer.Gpt2Pattern, ["<s>", "</s>"]);
        trainer.Add("some words to learn from, some words");
        string path = directory.File("model");
        TokenizerJsonWriter.Write(path, trainer.Train(), "<s>", "</s>");
        directory.Write("model/tokenizer_config.json", $$"""{"bos_token":"<s>","eos_token":"</s>","chat_template":"{{template}}"}""");
        return Tokenizer.Load(path);
    }
}

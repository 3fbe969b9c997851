using System.Text;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests.Data;

[Trait("Device", "Cpu")]
public class DataReaderTests
{
    private static DataSet Parse(string content) => DataReader.Parse(new MemoryStream(Encoding.UTF8.GetBytes(content)), "train.jsonl");

    private static string Message(string content) => Assert.Throws<EngineDataException>(() => Parse(content)).Message;

    [Fact]
    public void Prompt_and_completion()
    {
        DataSet data = Parse("\uFEFF{\"prompt\":\"a é\",\"completion\":\" b\",\"id\":7}\r\n\n  \n{\"completion\":\"\",\"prompt\":\"c\"}");
        Assert.Equal(DataFormat.PromptCompletion, data.Format);
        Assert.Equal([new("a é", false), new(" b", true)], data.Rows[0].Segments);
        Assert.Equal([new("c", false), new("", true)], data.Rows[1].Segments);
        Assert.Equal(["train.jsonl:1", "train.jsonl:4"], data.Rows.Select(row => row.Source));
        Assert.Equal(" b", data.Rows[0].Completion);
    }

    [Fact]
    public void Text_and_ids()
    {
        Assert.Equal([new("x", true)], Assert.Single(Parse("{\"text\":\"x\"}\n").Rows).Segments);
        DataSet data = Parse("{\"input_ids\":[1,2,3],\"labels\":[-100,2,3]}\n{\"input_ids\":[4]}\n{\"input_ids\":[5],\"labels\":null}");
        Assert.Equal(DataFormat.TokenIds, data.Format);
        Assert.Equal([1, 2, 3], data.Rows[0].InputIds!);
        Assert.Equal([-100, 2, 3], data.Rows[0].Labels!);
        Assert.Equal([4], data.Rows[1].Labels!);
        Assert.Equal([5], data.Rows[2].Labels!);
    }

    [Fact]
    public void Messages_learn_what_the_assistant_says()
    {
        string row = """{"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}""";
        Assert.Equal(
            [
                new("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n", false),
                new("A<|im_end|>", true),
                new("\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n", false),
                new("B<|im_end|>", true),
            ],
            Parse(row).Rows[0].Segments);
        DataSet llama = DataReader.Parse(new MemoryStream(Encoding.UTF8.GetBytes(row)), "t", ChatFormat.Llama3);
        Assert.Equal("A<|eot_id|>B<|eot_id|>", llama.Rows[0].Completion);
        Assert.EndsWith("<|start_header_id|>assistant<|end_header_id|>\n\n", Assert.Single(llama.Rows[0].PromptSegments).Text);
    }

    [Theory]
    [InlineData("", "train.jsonl: the file has no rows")]
    [InlineData("\n \r\n", "train.jsonl: the file has no rows")]
    [InlineData("{\"a\":1}", "train.jsonl:1: the row has none of the known formats; use one of {\"prompt\",\"completion\"}")]
    [InlineData("[1]", "train.jsonl:1: the root is not a JSON object")]
    [InlineData("{\"text\":\"a\",\"prompt\":\"b\"}", "train.jsonl:1: the row has fields of two formats")]
    [InlineData("{\"text\":\"a\"}\n{\"text\":", "train.jsonl:2: not valid JSON at line 1, byte 9")]
    [InlineData("{\"text\":\"a\"} {\"text\":\"b\"}", "train.jsonl:1: not valid JSON")]
    [InlineData("{\"text\":\"a\",\"text\":\"b\"}", "train.jsonl:1: not valid JSON")]
    [InlineData("{\"text\":\"a\"}\n\n{\"prompt\":\"b\",\"completion\":\"c\"}", "train.jsonl:3: text is missing; a string")]
    [InlineData("{\"text\":5}", "train.jsonl:1: text is 5; a string")]
    [InlineData("{\"text\":\"\\ud800\"}", "train.jsonl:1: text holds an escape")]
    [InlineData("{\"\\ud800\":1,\"text\":\"\"}", "train.jsonl:1: a field's name holds an escape")]
    [InlineData("{\"prompt\":\"a\"}", "train.jsonl:1: completion is missing")]
    [InlineData("{\"completion\":\"a\"}", "train.jsonl:1: prompt is missing")]
    [InlineData("{\"messages\":[]}", "train.jsonl:1: messages has no turn of the assistant")]
    [InlineData("{\"messages\":{}}", "train.jsonl:1: messages is {}; a list of objects")]
    [InlineData("{\"messages\":[1]}", "train.jsonl:1: messages[0] is 1; an object")]
    [InlineData("{\"messages\":[{\"role\":\"bot\",\"content\":\"\"}]}", "train.jsonl:1: messages[0].role is \"bot\"; system, user, assistant or tool")]
    [InlineData("{\"messages\":[{\"role\":\"user\"}]}", "train.jsonl:1: messages[0].content is missing")]
    [InlineData("{\"input_ids\":1}", "train.jsonl:1: input_ids is 1; a list of integers")]
    [InlineData("{\"input_ids\":null}", "train.jsonl:1: input_ids is missing")]
    [InlineData("{\"input_ids\":[1,2.5]}", "train.jsonl:1: input_ids[1] is 2.5; an integer")]
    [InlineData("{\"input_ids\":[99999999999]}", "train.jsonl:1: input_ids[0] is 99999999999")]
    [InlineData("{\"input_ids\":[1,2],\"labels\":[1]}", "train.jsonl:1: labels has 1 entries and input_ids 2")]
    [InlineData("{\"table_id\":\"t\",\"question\":\"q\"}", "train.jsonl:1: WikiSQL rows need their tables")]
    public void Explains_what_is_wrong(string content, string expected) => Assert.StartsWith(expected, Message(content));

    [Fact]
    public void Refuses_what_is_not_UTF8() =>
        Assert.Contains("t:1: not valid UTF-8", Assert.Throws<EngineDataException>(() => DataReader.Parse(new MemoryStream([(byte)'{', 0xff, (byte)'}']), "t")).Message);

    [Fact]
    public void Lines_longer_than_the_buffer_and_split_across_reads()
    {
        string[] texts = [.. Enumerable.Range(0, 60).Select(i => new string((char)('a' + (i % 26)), i * i * 50))];
        byte[] content = Encoding.UTF8.GetBytes(string.Join('\n', texts.Select(text => $"{{\"text\":\"{text}\"}}")));
        DataSet data = DataReader.Parse(new DribblingStream(content), "t");
        Assert.Equal(texts, data.Rows.Select(row => row.Completion));
    }

    [Fact]
    public void Explains_what_cannot_be_opened()
    {
        using var directory = new TemporaryDirectory();
        Assert.Contains("no such file", Assert.Throws<EngineDataException>(() => DataReader.Load(directory.File("none.jsonl"))).Message);
        Assert.Contains("directory", Assert.Throws<EngineDataException>(() => DataReader.Load(directory.Path)).Message);
    }

    // Gives at most 700 bytes a read and cannot tell its length.
    private sealed class DribblingStream(byte[] content) : MemoryStream(content)
    {
        public override bool CanSeek => false;

        public override int Read(byte[] buffer, int offset, int count) => base.Read(buffer, offset, Math.Min(count, 700));
    }
}

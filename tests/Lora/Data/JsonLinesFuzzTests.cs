using System.Text;
using Engine.Lora.Data;

namespace Engine.Lora.Tests.Data;

[Trait("Device", "Cpu")]
public class JsonLinesFuzzTests
{
    private static readonly Dictionary<string, WikiSqlTable> s_tables = new() { ["1-10"] = new("1-10", "t", ["a", "b c"]) };

    // Numbers in a row are values, never sizes, so the cost is in what is spelled out. Its dearest form is the row
    // {"text":""} of 12 bytes with its end: parsed document and its copy, field reader, source name, segment list and
    // row make about 700 bytes, 59 for each.
    private const int BytesPerByte = 60;

    // The buffers' least sizes, and one exception around another with their messages and stack traces.
    private const int Constant = 16 << 10;

    [Theory]
    [InlineData("{\"text\":\"\"}\n", "")]
    [InlineData("{\"input_ids\":[1]}\n", "")]
    [InlineData("{\"role\":\"user\",\"content\":\"\"},", "{\"messages\":[*{\"role\":\"assistant\",\"content\":\"\"}]}")]
    [InlineData("1,", "{\"input_ids\":[*1]}")]
    [InlineData("{},", "{\"text\":\"\",\"x\":[*{}]}")]
    public void The_dearest_rows_keep_the_bound(string piece, string around)
    {
        string content = string.Concat(Enumerable.Repeat(piece, 5_000));
        byte[] bytes = Encoding.UTF8.GetBytes(around.Length == 0 ? content : around.Replace("*", content, StringComparison.Ordinal));
        Parse(bytes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Parse(bytes);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, ((long)BytesPerByte * bytes.Length) + Constant);
    }

    [Fact]
    public void A_hundred_thousand_damaged_files_only_give_the_documented_exception()
    {
        byte[][] valid =
        [
            Encoding.UTF8.GetBytes("{\"prompt\":\"What?\",\"completion\":\" é\\n\"}\n{\"prompt\":\"\",\"completion\":\"x\"}\r\n"),
            Encoding.UTF8.GetBytes("{\"text\":\"a\\u00e9\\ud83d\\ude00\"}\n\n{\"text\":\"b\"}"),
            Encoding.UTF8.GetBytes("{\"messages\":[{\"role\":\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":\"A\"}]}\n"),
            Encoding.UTF8.GetBytes("{\"input_ids\":[1,2,3,4],\"labels\":[-100,2,3,4]}\n{\"input_ids\":[5,6]}\n"),
            Encoding.UTF8.GetBytes("{\"phase\":1,\"table_id\":\"1-10\",\"question\":\"q\",\"sql\":{\"sel\":1,\"agg\":3,\"conds\":[[0,0,\"v\"],[1,2,4]]}}\n"),
        ];
        Assert.All(valid, Read);

        int accepted = new Fuzzer(20240612, valid).Run(100_000, Read, BytesPerByte, Constant);

        // Neither everything nor nothing got through, so both ways were walked.
        Assert.InRange(accepted, 1_000, 60_000);
    }

    // Accepted rows must also survive tokenisation, or be refused in the documented way.
    private static void Read(byte[] bytes)
    {
        DataSet data = Parse(bytes);
        if (data.Format == DataFormat.TokenIds)
        {
            new ExampleBuilder(new ExampleOptions { VocabularySize = 300, MaxLength = 64 }, encoder: null).Build(data);
        }
    }

    private static DataSet Parse(byte[] bytes)
    {
        using var stream = new MemoryStream(bytes);
        return DataReader.Parse(stream, "f.jsonl", chat: null, () => s_tables);
    }
}

using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Safetensors;

[Trait("Device", "Cpu")]
public class CheckpointTests
{
    private static SafetensorsEntry[] Entries() =>
        [.. Enumerable.Range(0, 5).Select(i => SafetensorsEntry.FromBytes($"t{i}", DType.U8, [10], Enumerable.Repeat((byte)(i + 1), 10).ToArray()))];

    private static string Message(string directory) => Assert.Throws<EngineDataException>(() => CheckpointReader.Open(directory)).Message;

    [Theory]
    [InlineData(50, 1)]
    [InlineData(49, 2)]
    [InlineData(20, 3)]
    [InlineData(1, 5)]
    public void What_is_written_is_read_back(long maxShardSize, int files)
    {
        using var directory = new TemporaryDirectory();
        directory.Write("config.json", "{}");
        IReadOnlyList<string> written = CheckpointWriter.Write(directory.Path, Entries(), maxShardSize);
        Assert.Equal(files == 1 ? 1 : files + 1, written.Count);
        Assert.All(written, path => Assert.True(File.Exists(path)));
        Assert.Equal(written.Count + 1, Directory.GetFiles(directory.Path).Length);
        using CheckpointReader reader = CheckpointReader.Open(directory.Path);
        Assert.Equal(files, reader.Files.Count);
        Assert.Equal(50, reader.TotalBytes);
        Assert.Equal(["t0", "t1", "t2", "t3", "t4"], reader.Tensors.Keys.Order());
        Assert.All(reader.Tensors, pair => Assert.All(pair.Value.Data.ToArray(), b => Assert.Equal(pair.Key[1] - '0' + 1, b)));
        Assert.Contains("\"none\"", Assert.Throws<EngineDataException>(() => reader["none"]).Message);
    }

    [Fact]
    public void A_save_replaces_weights_of_the_other_form()
    {
        using var directory = new TemporaryDirectory();
        directory.Write("config.json", "{}");
        directory.Write("model.notes.safetensors", "kept");
        foreach (long size in (long[])[50, 20, 10, 50])
        {
            IReadOnlyList<string> written = CheckpointWriter.Write(directory.Path, Entries(), size);
            Assert.Equal(
                written.Select(Path.GetFileName).Append("config.json").Append("model.notes.safetensors").Order(),
                Directory.GetFiles(directory.Path).Select(Path.GetFileName).Order());
        }
    }

    [Fact]
    public void A_failed_save_leaves_the_old_weights_alone()
    {
        using var directory = new TemporaryDirectory();
        IReadOnlyList<string> written = CheckpointWriter.Write(directory.Path, Entries(), 20);
        byte[][] before = [.. written.Select(File.ReadAllBytes)];
        SafetensorsEntry[] failing = [.. Entries()[..4], new SafetensorsEntry("t4", DType.U8, [10], 10, _ => throw new IOException("No space left on device"))];
        Assert.Contains("No space left", Assert.Throws<EngineDataException>(() => CheckpointWriter.Write(directory.Path, failing, 20)).Message);
        Assert.Equal(before, written.Select(File.ReadAllBytes));
        Assert.Equal(written.Count, Directory.GetFiles(directory.Path).Length);
        Assert.Throws<ArgumentException>(() => CheckpointWriter.Write(directory.Path, [.. Entries(), Entries()[0]], 20));
    }

    [Fact]
    public void Explains_a_directory_that_is_no_model()
    {
        using var directory = new TemporaryDirectory();
        Assert.Contains("no such directory", Message(directory.File("none")));
        Assert.Contains("this is a file", Message(directory.Write("file", "")));
        Assert.Contains("config.json is missing", Message(directory.Path));
        directory.Write("adapter_config.json", "{}");
        Assert.Contains("adapter", Message(directory.Path));
        directory.Write("config.json", "{}");
        Assert.Contains("no weights", Message(directory.Path));
        directory.Write("pytorch_model.bin", "x");
        string pickle = Message(directory.Path);
        Assert.Contains("pytorch_model.bin", pickle);
        Assert.Contains("safetensors.torch.save_file", pickle);
        directory.Write("model.safetensors", "PK\u0003\u0004........");
        Assert.Contains("pickle", Message(directory.Path));
    }

    [Theory]
    [InlineData("""{}""", "weight_map is missing")]
    [InlineData("""{"weight_map":{}}""", "weight_map is empty")]
    [InlineData("""{"weight_map":[]}""", "weight_map is []; an object")]
    [InlineData("""{"weight_map":{"t":1}}""", "weight_map.t is 1; a string")]
    [InlineData("""{"weight_map":{"t":null}}""", "weight_map.t is missing")]
    [InlineData("""{"weight_map":{"t":"s","t":"s"}}""", "not valid JSON")]
    [InlineData("""{"weight_map":{"t":"missing.safetensors"}}""", "\"missing.safetensors\", but there is no such file")]
    [InlineData("""{"weight_map":{"t":"../outside.safetensors"}}""", "\"../outside.safetensors\"; a file name inside")]
    [InlineData("""{"weight_map":{"t":"a/../../outside.safetensors"}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t":"..\\outside.safetensors"}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t":"/etc/passwd"}}""", "\"/etc/passwd\"; a file name inside")]
    [InlineData("""{"weight_map":{"t":"C:outside"}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t":"a\u0000b"}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t":"."}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t":""}}""", "a file name inside")]
    [InlineData("""{"weight_map":{"t0":"shard.safetensors","lost":"shard.safetensors"}}""", "\"lost\" should be in \"shard.safetensors\"")]
    [InlineData("""{"weight_map":""", "not valid JSON")]
    public void Explains_a_bad_index(string index, string expected)
    {
        using var outer = new TemporaryDirectory();
        string model = outer.File("model");
        outer.Write("outside.safetensors", "x");
        outer.Write("model/config.json", "{}");
        outer.Write("model/model.safetensors.index.json", index);
        SafetensorsWriter.Write(Path.Combine(model, "shard.safetensors"), Entries());
        string message = Message(model);
        Assert.Contains("model.safetensors.index.json", message);
        Assert.Contains(expected, message);
    }
}

using System.Text;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Safetensors;

[Trait("Device", "Cpu")]
public class SafetensorsWriterTests
{
    private static SafetensorsEntry Entry(string name, DType dtype, long[] shape, byte fill)
    {
        long count = shape.Aggregate(1L, (a, b) => a * b);
        byte[] bytes = new byte[count * dtype.Size()];
        Array.Fill(bytes, fill);
        return SafetensorsEntry.FromBytes(name, dtype, shape, bytes);
    }

    [Fact]
    public void Follows_the_rules_of_the_reference_serializer()
    {
        // The rules of the reference serializer, applied by hand (ReferenceFilesTests compares with its files): widest element type first, then by name, padded to 8.
        using var stream = new MemoryStream();
        SafetensorsWriter.Write(
            stream,
            [Entry("u", DType.U8, [3], 1), Entry("b", DType.F32, [], 2), Entry("a", DType.F32, [1, 2], 3), Entry("h", DType.BF16, [0], 4), Entry("i", DType.I64, [1], 5)]);
        string header = """{"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"b":{"dtype":"F32","shape":[],"data_offsets":[16,20]},"h":{"dtype":"BF16","shape":[0],"data_offsets":[20,20]},"u":{"dtype":"U8","shape":[3],"data_offsets":[20,23]}}""";
        byte[] bytes = stream.ToArray();
        int padded = (header.Length + 7) / 8 * 8;
        Assert.Equal(padded, BitConverter.ToInt64(bytes));
        Assert.Equal(header.PadRight(padded), Encoding.UTF8.GetString(bytes, 8, padded));
        byte[] data = [.. Enumerable.Repeat((byte)5, 8), .. Enumerable.Repeat((byte)3, 8), .. Enumerable.Repeat((byte)2, 4), 1, 1, 1];
        Assert.Equal(data, bytes[(8 + padded)..]);
    }

    [Fact]
    public void What_is_written_is_read_back()
    {
        using var directory = new TemporaryDirectory();
        string first = directory.File("sub/first.safetensors");
        SafetensorsEntry[] entries = [.. Enum.GetValues<DType>().Select((dtype, i) => Entry($"t\"{i}\\é😀", dtype, [2, i, 3], (byte)i))];
        SafetensorsWriter.Write(first, entries, new Dictionary<string, string> { ["k\n"] = "v" });
        using SafetensorsFile file = SafetensorsFile.Open(first);
        Assert.Equal("v", file.Metadata["k\n"]);
        foreach (SafetensorsEntry entry in entries)
        {
            SafetensorsTensor read = file[entry.Name];
            Assert.Equal(entry.DType, read.DType);
            Assert.Equal(entry.Shape, read.Shape);
            using var data = new MemoryStream();
            entry.Write(data);
            Assert.Equal(data.ToArray(), read.Data.ToArray());
        }

        string second = directory.File("second.safetensors");
        SafetensorsWriter.Write(second, file.Tensors.Values.Select(tensor => SafetensorsEntry.CopyOf(tensor)), file.Metadata);
        Assert.Equal(File.ReadAllBytes(first), File.ReadAllBytes(second));
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void A_wrong_length_is_caught_and_leaves_the_old_file(int written)
    {
        using var directory = new TemporaryDirectory();
        string path = directory.File("m.safetensors");
        SafetensorsWriter.Write(path, [Entry("a", DType.U8, [1], 1)]);
        byte[] before = File.ReadAllBytes(path);
        var wrong = new SafetensorsEntry("w", DType.F32, [1], 4, stream => stream.Write(new byte[written]));
        Assert.Contains("tensor w announced 4 bytes", Assert.Throws<InvalidOperationException>(() => SafetensorsWriter.Write(path, [wrong])).Message);
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Single(Directory.GetFiles(directory.Path));
    }

    [Fact]
    public void Refuses_wrong_entries()
    {
        Assert.Throws<ArgumentException>(() => SafetensorsEntry.FromBytes("a", DType.F32, [2], new byte[4]));
        Assert.Throws<ArgumentException>(() => SafetensorsEntry.FromBytes("__metadata__", DType.U8, [1], new byte[1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => SafetensorsEntry.FromBytes("a", DType.U8, [-1], Array.Empty<byte>()));
        Assert.Throws<ArgumentException>(() => SafetensorsWriter.Write(Stream.Null, [Entry("a", DType.U8, [1], 1), Entry("a", DType.F32, [1], 1)]));
    }

    [Fact]
    public void An_unwritable_place_is_a_data_error()
    {
        using var directory = new TemporaryDirectory();
        string blocked = directory.Write("file", "x");
        Assert.Throws<EngineDataException>(() => SafetensorsWriter.Write(Path.Combine(blocked, "m.safetensors"), []));
    }
}

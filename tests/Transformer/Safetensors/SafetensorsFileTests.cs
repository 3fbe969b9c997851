using System.Buffers.Binary;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Safetensors;

[Trait("Device", "Cpu")]
public class SafetensorsFileTests
{
    [Fact]
    public void Reads_names_shapes_metadata_and_bytes()
    {
        byte[] bytes = Raw.File(
            """{"__metadata__":{"format":"pt","k":"é"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"e":{"dtype":"I64","shape":[0,7],"data_offsets":[2,2]}}   """, 26);
        using SafetensorsFile file = SafetensorsFile.Parse(bytes);
        Assert.Equal(["b", "a", "e"], file.Tensors.Keys);
        Assert.Equal("é", file.Metadata["k"]);
        Assert.Equal(DType.F32, file["b"].DType);
        Assert.Equal([2L, 3L], file["b"].Shape.ToArray());
        Assert.Equal(6, file["b"].ElementCount);
        Assert.Equal(bytes[^24..], file["b"].Data.ToArray());
        Assert.Equal(bytes[^20..^16], file["b"].Slice(4, 4).ToArray());
        Assert.Equal(DType.BF16, file["a"].DType);
        Assert.Equal(0, file["a"].Rank);
        Assert.Equal(1, file["a"].ElementCount);
        Assert.Equal(0, file["e"].ByteLength);
        Assert.True(file["e"].Data.IsEmpty);
        Assert.Throws<ArgumentOutOfRangeException>(() => { _ = file["b"].Slice(21, 4); });
        Assert.Contains("\"zz\"", Assert.Throws<EngineDataException>(() => file["zz"]).Message);
    }

    [Fact]
    public void Maps_a_file_and_refuses_after_dispose()
    {
        using var directory = new TemporaryDirectory();
        string path = directory.File("model.safetensors");
        byte[] bytes = Raw.File("""{"x":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}""", 5);
        File.WriteAllBytes(path, bytes);
        SafetensorsFile file = SafetensorsFile.Open(path);
        SafetensorsTensor tensor = file["x"];
        Assert.Equal(bytes[^5..], tensor.Data.ToArray());
        file.Dispose();
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => { _ = tensor.Data; });
        Assert.Throws<ObjectDisposedException>(() => { _ = tensor.Slice(0, 1); });
        File.Delete(path);
    }

    [Fact]
    public void Accepts_no_tensors()
    {
        using SafetensorsFile file = SafetensorsFile.Parse(Raw.File("{}", 0));
        Assert.Empty(file.Tensors);
        Assert.Empty(file.Metadata);
    }

    [Fact]
    public void Opens_a_file_with_a_boolean_buffer_and_names_it_when_it_is_used()
    {
        using SafetensorsFile file = SafetensorsFile.Parse(Raw.File("""{"h.0.attn.bias":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}""", 4), "m.safetensors");
        Assert.False(file["h.0.attn.bias"].IsSupported);
        string message = Assert.Throws<EngineDataException>(() => { _ = file["h.0.attn.bias"].DType; }).Message;
        Assert.Contains("m.safetensors", message);
        Assert.Contains("h.0.attn.bias", message);
        Assert.Contains("BOOL", message);
        Assert.Contains("BF16", message);
    }

    [Theory]
    // Structure of the header.
    [InlineData("""[1]""", 0, "not with {")]
    [InlineData("""{"a":1}""", 0, "\"a\": is not an object")]
    [InlineData("""{"a":{}""", 0, "\"a\": dtype is missing")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}""", 1, "not valid JSON")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} x""", 1, "not valid JSON")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1, "tensor \"a\" appears twice")]
    [InlineData("""{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1, "dtype appears twice")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}""", 1, "shape appears twice")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}}""", 1, "data_offsets appears twice")]
    [InlineData("""{"a":{"dtype":"U8","data_offsets":[0,1]}}""", 1, "shape is missing")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1]}}""", 1, "data_offsets is missing")]
    [InlineData("""{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1, "invalid string")]
    [InlineData("""{"a":{"x":[[[[[[[[[1]]]]]]]]],"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1, "not valid JSON")]
    // Metadata.
    [InlineData("""{"__metadata__":{},"__metadata__":{}}""", 0, "__metadata__ appears twice")]
    [InlineData("""{"__metadata__":[]}""", 0, "__metadata__ is not an object")]
    [InlineData("""{"__metadata__":{"a":1}}""", 0, "value of \"a\" is not a string")]
    [InlineData("""{"__metadata__":{"a":"1","a":"2"}}""", 0, "key \"a\" appears twice")]
    // Dtype and shape.
    [InlineData("""{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}""", 4, "dtype \"F31\" is unknown; supported: F32")]
    [InlineData("""{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}""", 4, "dtype is not a string")]
    [InlineData("""{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}""", 1, "shape is not a list")]
    [InlineData("""{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}""", 1, "shape holds -1; a non-negative integer")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}""", 1, "shape holds 1.0")]
    [InlineData("""{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}""", 1, "shape holds 1;")]
    [InlineData("""{"a":{"dtype":"U8","shape":[18446744073709551617],"data_offsets":[0,1]}}""", 1, "shape holds 18446744073709551617")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,1]}}""", 1, "larger than any file")]
    [InlineData("""{"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}""", 0, "larger than any file")]
    // Offsets.
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}""", 1, "data_offsets has 1 numbers")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}""", 1, "data_offsets holds -1")]
    [InlineData("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}""", 1, "end before they begin")]
    [InlineData("""{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}""", 8, "reach beyond the 8 bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, "span 4 bytes, but shape [2] of F32 needs 8")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}""", 7, "tensor \"b\": data_offsets [3, 7] overlap tensor \"a\", which ends at 4")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}}""", 7, "leave a hole after tensor \"a\"")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}""", 5, "leave a hole after the start")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}""", 6, "data section has 6 bytes, but the tensors end at 4")]
    public void Explains_what_is_wrong(string header, int dataLength, string expected)
    {
        string message = Assert.Throws<EngineDataException>(() => SafetensorsFile.Parse(Raw.File(header, dataLength), "dir/m.safetensors")).Message;
        Assert.StartsWith("dir/m.safetensors: ", message);
        Assert.Contains(expected, message);
    }

    [Fact]
    public void Explains_a_bad_length()
    {
        Check(new byte[7], "7 bytes");
        Check(Raw.File("{}", 0, 3), "header length 3 is larger than the 2 bytes");
        Check(Raw.File("{}", 0, ulong.MaxValue), "18446744073709551615 is larger");
        Check(Raw.File("{}", 0, 1), "too small");
        Check(Raw.File("{\"\u00ff\":1}", 0)[..^0], "not an object");
        byte[] notUtf8 = Raw.File("{\"a\":1}", 0);
        notUtf8[10] = 0xff;
        Check(notUtf8, "not valid UTF-8");

        static void Check(byte[] bytes, string expected) =>
            Assert.Contains(expected, Assert.Throws<EngineDataException>(() => SafetensorsFile.Parse(bytes)).Message);
    }

    [Fact]
    public void Refuses_a_header_over_the_limit_without_reading_it()
    {
        using var directory = new TemporaryDirectory();
        string path = directory.File("big.safetensors");
        using (FileStream stream = File.Create(path))
        {
            byte[] head = new byte[16];
            BinaryPrimitives.WriteInt64LittleEndian(head, SafetensorsFile.MaxHeaderLength + 1);
            head[8] = (byte)'{';
            stream.Write(head);
            stream.SetLength(SafetensorsFile.MaxHeaderLength + 100); // sparse
        }

        Assert.Contains("over the format's limit", Assert.Throws<EngineDataException>(() => SafetensorsFile.Open(path)).Message);
    }

    [Theory]
    [InlineData("PK\u0003\u0004\0\0\u0008\u0008 torch zip archive", "pickle")]
    [InlineData("version https://git-lfs.github.com/spec/v1", "git lfs pull")]
    [InlineData("GGUF\u0003\0\0\0 tensors follow", "GGUF")]
    public void Recognises_other_kinds_of_files(string content, string expected)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(content);
        Assert.Contains(expected, Assert.Throws<EngineDataException>(() => SafetensorsFile.Parse(bytes)).Message);
    }

    [Fact]
    public void Recognises_a_bare_pickle_but_not_a_header_of_640_bytes()
    {
        byte[] pickle = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20];
        Assert.Contains("safetensors.torch.save_file", Assert.Throws<EngineDataException>(() => SafetensorsFile.Parse(pickle)).Message);
        using SafetensorsFile file = SafetensorsFile.Parse(Raw.File("{}".PadRight(640), 0));
        Assert.Empty(file.Tensors);
    }

    [Fact]
    public void Explains_what_cannot_be_opened()
    {
        using var directory = new TemporaryDirectory();
        Assert.Contains("no such file", Assert.Throws<EngineDataException>(() => SafetensorsFile.Open(directory.File("none"))).Message);
        Assert.Contains("directory", Assert.Throws<EngineDataException>(() => SafetensorsFile.Open(directory.Path)).Message);
        File.WriteAllText(directory.File("empty"), "");
        Assert.Contains("0 bytes", Assert.Throws<EngineDataException>(() => SafetensorsFile.Open(directory.File("empty"))).Message);
    }
}

using System.Buffers.Binary;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>The first bytes of a file: the header's length, or the sign that this is another kind of file.</summary>
internal static class SafetensorsPreamble
{
    public const string ConvertRemedy =
        "convert it to safetensors (in Python: safetensors.torch.save_file(state_dict, \"model.safetensors\")); "
        + "pickle files are never opened, because unpickling can run any code";

    public static string TooShort(string path, long length) =>
        $"{path}: the file has {length} bytes; a safetensors file starts with 8 bytes of header length";

    /// <summary>Checks the length and the opening brace; returns the header's length in bytes.</summary>
    public static unsafe int HeaderLength(string path, byte* start, long fileLength)
    {
        var head = new ReadOnlySpan<byte>(start, (int)Math.Min(fileLength, 64));
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(head);
        if (length > (ulong)(fileLength - 8) || length > SafetensorsFile.MaxHeaderLength || length < 2 || start[8] != '{')
        {
            throw new EngineDataException(Explain(path, head, length, fileLength));
        }

        return (int)length;
    }

    // Only reached when the file is no safetensors file: a header of 640 bytes begins with 0x80 0x02, just as a pickle.
    private static string Explain(string path, ReadOnlySpan<byte> head, ulong length, long fileLength)
    {
        if (head.StartsWith("PK\x03\x04"u8) || (head[0] == 0x80 && head[1] is >= 2 and <= 5))
        {
            return $"{path}: this is a PyTorch pickle file, not safetensors; {ConvertRemedy}";
        }

        if (head.StartsWith("version https://git-lfs"u8))
        {
            return $"{path}: this is a Git LFS pointer, not the file itself; fetch it with: git lfs pull";
        }

        if (head.StartsWith("GGUF"u8))
        {
            return $"{path}: this is a GGUF file; a safetensors file is needed";
        }

        return length > SafetensorsFile.MaxHeaderLength && length <= (ulong)(fileLength - 8)
            ? $"{path}: header length {length} is over the format's limit of {SafetensorsFile.MaxHeaderLength}"
            : length > (ulong)(fileLength - 8)
            ? $"{path}: header length {length} is larger than the {fileLength - 8} bytes that follow it; the file is truncated or not a safetensors file"
            : length < 2
            ? $"{path}: header length {length} is too small; the shortest header is {{}}"
            : $"{path}: the header starts with byte 0x{head[8]:x2}, not with {{; this is not a safetensors file";
    }
}

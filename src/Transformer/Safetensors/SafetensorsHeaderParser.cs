using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using System.Text.Unicode;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// Reads and checks the JSON header. Numbers are checked before anything is allocated from them: memory is taken only
/// for what the header spells out (names, extents), so it is bounded by a multiple of the header's own length.
/// </summary>
internal sealed class SafetensorsHeaderParser(SafetensorsFile file, long dataLength)
{
    public Dictionary<string, SafetensorsTensor> Tensors { get; } = new(StringComparer.Ordinal);

    public Dictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

    public void Parse(ReadOnlySpan<byte> header)
    {
        if (!Utf8.IsValid(header))
        {
            Fail("the header is not valid UTF-8");
        }

        try
        {
            // Objects inside the root hold at most one more level (arrays); 8 leaves room for fields we skip.
            var reader = new Utf8JsonReader(header, new JsonReaderOptions { MaxDepth = 8 });
            ReadRoot(ref reader);
        }
        catch (JsonException error)
        {
            throw new EngineDataException($"{file.Path}: the header is not valid JSON: {ErrorText.Clip(error.Message)}", error);
        }
        catch (InvalidOperationException error)
        {
            // The reader's report of an escape that is no Unicode character, such as a lone "\ud800".
            throw new EngineDataException($"{file.Path}: the header holds an invalid string: {ErrorText.Clip(error.Message)}", error);
        }

        CheckLayout();
    }

    private void ReadRoot(ref Utf8JsonReader reader)
    {
        reader.Read();
        bool hasMetadata = false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            if (name == "__metadata__")
            {
                FailIf(hasMetadata, "__metadata__ appears twice");
                hasMetadata = true;
                ReadMetadata(ref reader);
            }
            else if (!Tensors.TryAdd(name, ReadTensor(ref reader, name)))
            {
                Fail($"tensor {ErrorText.Quote(name)} appears twice");
            }
        }

        // Padding after the root is allowed, anything else makes the reader throw.
        reader.Read();
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        FailIf(reader.TokenType != JsonTokenType.StartObject, "__metadata__ is not an object; it maps strings to strings");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
            {
                Fail($"__metadata__: the value of {ErrorText.Quote(key)} is not a string");
            }

            if (!Metadata.TryAdd(key, reader.GetString()!))
            {
                Fail($"__metadata__: key {ErrorText.Quote(key)} appears twice");
            }
        }
    }

    private SafetensorsTensor ReadTensor(ref Utf8JsonReader reader, string name)
    {
        FailTensorIf(reader.TokenType != JsonTokenType.StartObject, name, "is not an object with dtype, shape and data_offsets");
        string? dtypeName = null;
        int size = 0;
        DType? dtype = null;
        long[]? shape = null;
        long begin = -1;
        long end = -1;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("dtype"u8))
            {
                FailTensorIf(dtypeName is not null, name, "dtype appears twice");
                reader.Read();
                FailTensorIf(reader.TokenType != JsonTokenType.String, name, "dtype is not a string");
                if (!SafetensorsDType.TryRead(ref reader, out dtypeName, out size, out dtype))
                {
                    FailTensor(name, $"dtype \"{ErrorText.Clip(reader.ValueSpan)}\" is unknown; supported: {SafetensorsDType.Supported}");
                }
            }
            else if (reader.ValueTextEquals("shape"u8))
            {
                FailTensorIf(shape is not null, name, "shape appears twice");
                shape = ReadIntegers(ref reader, name, "shape");
            }
            else if (reader.ValueTextEquals("data_offsets"u8))
            {
                FailTensorIf(begin >= 0, name, "data_offsets appears twice");
                long[] offsets = ReadIntegers(ref reader, name, "data_offsets");
                if (offsets.Length != 2)
                {
                    FailTensor(name, $"data_offsets has {offsets.Length} numbers; [begin, end] is needed");
                }

                (begin, end) = (offsets[0], offsets[1]);
            }
            else
            {
                // As the reference reader does: fields of a later version of the format are passed over.
                reader.Read();
                reader.Skip();
            }
        }

        FailTensorIf(dtypeName is null, name, "dtype is missing");
        FailTensorIf(shape is null, name, "shape is missing");
        FailTensorIf(begin < 0, name, "data_offsets is missing");
        long count = CheckSize(name, dtypeName!, size, shape!, begin, end);
        return new SafetensorsTensor(file, name, dtypeName!, dtype, shape!, count, begin, end);
    }

    private long CheckSize(string name, string dtypeName, int size, long[] shape, long begin, long end)
    {
        long count = 1;
        foreach (long extent in shape)
        {
            Int128 product = (Int128)count * extent;
            if (product * size > long.MaxValue)
            {
                FailTensor(name, $"shape {ErrorText.Shape(shape)} of {dtypeName} is larger than any file");
            }

            count = (long)product;
        }

        if (begin > end)
        {
            FailTensor(name, $"data_offsets [{begin}, {end}] end before they begin");
        }

        if (end > dataLength)
        {
            FailTensor(name, $"data_offsets [{begin}, {end}] reach beyond the {dataLength} bytes of data in the file; is it truncated?");
        }

        if (end - begin != count * size)
        {
            FailTensor(name, $"data_offsets [{begin}, {end}] span {end - begin} bytes, but shape {ErrorText.Shape(shape)} of {dtypeName} needs {count * size}");
        }

        return count;
    }

    private long[] ReadIntegers(ref Utf8JsonReader reader, string name, string field)
    {
        reader.Read();
        FailTensorIf(reader.TokenType != JsonTokenType.StartArray, name, $"{field} is not a list of integers");

        // The reader is a value: a copy runs ahead to count, so that the array is allocated once.
        Utf8JsonReader ahead = reader;
        int count = 0;
        while (ahead.Read() && ahead.TokenType == JsonTokenType.Number)
        {
            count++;
        }

        long[] values = count == 0 ? [] : new long[count];
        for (int i = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; i++)
        {
            if (reader.TokenType != JsonTokenType.Number || reader.ValueSpan[0] == '-' || !reader.TryGetInt64(out values[i]))
            {
                FailTensor(name, $"{field} holds {ErrorText.Clip(reader.ValueSpan)}; a non-negative integer below 2^63 is needed");
            }
        }

        return values;
    }

    // The format wants the tensors to tile the data section: no overlap, no hole, nothing after the last.
    private void CheckLayout()
    {
        SafetensorsTensor[] order = [.. Tensors.Values];
        Array.Sort(order, static (a, b) => a.Begin != b.Begin ? a.Begin.CompareTo(b.Begin) : a.End.CompareTo(b.End));
        long covered = 0;
        SafetensorsTensor? last = null;
        foreach (SafetensorsTensor tensor in order)
        {
            if (tensor.Begin < covered)
            {
                FailTensor(tensor.Name, $"data_offsets [{tensor.Begin}, {tensor.End}] overlap {Describe(last)}, which ends at {covered}");
            }

            if (tensor.Begin > covered)
            {
                FailTensor(tensor.Name, $"data_offsets [{tensor.Begin}, {tensor.End}] leave a hole after {Describe(last)}, which ends at {covered}");
            }

            covered = tensor.End;
            last = tensor;
        }

        if (covered != dataLength)
        {
            Fail($"the data section has {dataLength} bytes, but the tensors end at {covered}");
        }
    }

    private static string Describe(SafetensorsTensor? tensor) =>
        tensor is null ? "the start of the data" : $"tensor {ErrorText.Quote(tensor.Name)}";

    private void FailIf([DoesNotReturnIf(true)] bool condition, string message)
    {
        if (condition)
        {
            Fail(message);
        }
    }

    private void FailTensorIf([DoesNotReturnIf(true)] bool condition, string name, string message)
    {
        if (condition)
        {
            FailTensor(name, message);
        }
    }

    [DoesNotReturn]
    private void FailTensor(string name, string message) => Fail($"tensor {ErrorText.Quote(name)}: {message}");

    [DoesNotReturn]
    private void Fail(string message) => throw new EngineDataException($"{file.Path}: {message}");
}

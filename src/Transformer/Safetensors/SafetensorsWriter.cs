using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// Writes safetensors files as the reference serializer does: tensors ordered by element type (widest first) and then
/// by name, header compact and padded with spaces to a multiple of 8. Tensors are produced one after another, so that
/// no more than one is in memory. The same entries give the same bytes.
/// </summary>
public static class SafetensorsWriter
{
    private static readonly Dictionary<string, string> s_defaultMetadata = new() { ["format"] = "pt" };

    /// <summary>Writes <paramref name="path"/> atomically: the file appears whole or not at all.</summary>
    /// <param name="path">The file to create or replace.</param>
    /// <param name="entries">The tensors, in any order; names must differ.</param>
    /// <param name="metadata">The header's string map; by default <c>{"format":"pt"}</c>, which transformers asks for.</param>
    /// <exception cref="EngineDataException">The place cannot be written or the disk is full.</exception>
    /// <exception cref="ArgumentException">Two entries have the same name, or the header would be over 100 MB.</exception>
    /// <exception cref="InvalidOperationException">An entry wrote more or fewer bytes than it announced.</exception>
    public static void Write(string path, IEnumerable<SafetensorsEntry> entries, IReadOnlyDictionary<string, string>? metadata = null)
    {
        SafetensorsEntry[] order = Order(entries);
        byte[] head = Header(order, metadata ?? s_defaultMetadata);
        AtomicFile.Write(path, stream => WriteTo(stream, head, order));
    }

    /// <summary>Writes the same bytes to a stream.</summary>
    /// <inheritdoc cref="Write(string, IEnumerable{SafetensorsEntry}, IReadOnlyDictionary{string, string})"/>
    public static void Write(Stream stream, IEnumerable<SafetensorsEntry> entries, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        SafetensorsEntry[] order = Order(entries);
        WriteTo(stream, Header(order, metadata ?? s_defaultMetadata), order);
    }

    private static void WriteTo(Stream stream, byte[] head, SafetensorsEntry[] order)
    {
        stream.Write(head);
        foreach (SafetensorsEntry entry in order)
        {
            var counted = new ExactLengthStream(stream, entry.Name, entry.ByteLength);
            entry.Write(counted);
            counted.CheckComplete();
        }
    }

    private static SafetensorsEntry[] Order(IEnumerable<SafetensorsEntry> entries)
    {
        ArgumentNullException.ThrowIfNull(entries);
        SafetensorsEntry[] order = [.. entries];
        Array.Sort(order, static (a, b) =>
        {
            int byType = SafetensorsDType.Rank(b.DType).CompareTo(SafetensorsDType.Rank(a.DType));
            return byType != 0 ? byType : string.CompareOrdinal(a.Name, b.Name);
        });
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (SafetensorsEntry entry in order)
        {
            if (!names.Add(entry.Name))
            {
                throw new ArgumentException($"two tensors are called {entry.Name}", nameof(entries));
            }
        }

        return order;
    }

    // The 8 bytes of length, the JSON and its padding.
    private static byte[] Header(SafetensorsEntry[] order, IReadOnlyDictionary<string, string> metadata)
    {
        using var head = new MemoryStream();
        head.Write(stackalloc byte[8]);
        var options = new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var json = new Utf8JsonWriter(head, options))
        {
            json.WriteStartObject();
            if (metadata.Count > 0)
            {
                json.WriteStartObject("__metadata__"u8);
                foreach ((string key, string value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                {
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            long offset = 0;
            foreach (SafetensorsEntry entry in order)
            {
                json.WriteStartObject(entry.Name);
                json.WriteString("dtype"u8, SafetensorsDType.Name(entry.DType));
                json.WriteStartArray("shape"u8);
                foreach (long extent in entry.Shape)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets"u8);
                json.WriteNumberValue(offset);
                offset = checked(offset + entry.ByteLength);
                json.WriteNumberValue(offset);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        while (head.Length % 8 != 0)
        {
            head.WriteByte((byte)' ');
        }

        long length = head.Length - 8;
        if (length > SafetensorsFile.MaxHeaderLength)
        {
            throw new ArgumentException($"the header would have {length} bytes; the format allows {SafetensorsFile.MaxHeaderLength}", nameof(order));
        }

        byte[] bytes = head.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(bytes, length);
        return bytes;
    }
}

using System.Text.Encodings.Web;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>Writes a trained vocabulary as files that Engine and the Hugging Face libraries load.</summary>
public static class TokenizerJsonWriter
{
    private static readonly JsonWriterOptions Options = new()
    {
        Indented = true,
        NewLine = "\n",
        // The file is JSON alone, never part of a web page; "Ġ" stays readable.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>
    /// Writes tokenizer.json and tokenizer_config.json into a directory, which is created if needed. Equal input gives
    /// equal bytes.
    /// </summary>
    /// <param name="directory">Where to write.</param>
    /// <param name="trained">The vocabulary.</param>
    /// <param name="beginToken">The special token put before every text, or null for none.</param>
    /// <param name="endToken">The special token that ends a text; it is named in the configuration, not put after texts.</param>
    /// <param name="padToken">The special token that fills short rows, or null.</param>
    /// <exception cref="EngineDataException">The directory cannot be written.</exception>
    public static void Write(
        string directory, TrainedBpe trained, string? beginToken = null, string? endToken = null, string? padToken = null)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(trained);
        foreach (string? token in new[] { beginToken, endToken, padToken })
        {
            if (token is not null && !trained.SpecialTokens.Contains(token))
            {
                throw new ArgumentException($"{token} is not one of the special tokens of the vocabulary");
            }
        }

        WriteJson(Path.Combine(directory, "tokenizer.json"), json => WriteTokenizer(json, trained, beginToken));
        WriteJson(Path.Combine(directory, "tokenizer_config.json"), json =>
        {
            json.WriteStartObject();
            json.WriteString("tokenizer_class", "PreTrainedTokenizerFast");
            json.WriteString("bos_token", beginToken);
            json.WriteString("eos_token", endToken);
            json.WriteString("pad_token", padToken);
            json.WriteBoolean("clean_up_tokenization_spaces", false);
            json.WriteEndObject();
        });
    }

    private static void WriteJson(string path, Action<Utf8JsonWriter> write) => AtomicFile.Write(path, stream =>
    {
        using (var json = new Utf8JsonWriter(stream, Options))
        {
            write(json);
        }

        stream.WriteByte((byte)'\n');
    });

    private static void WriteTokenizer(Utf8JsonWriter json, TrainedBpe trained, string? beginToken)
    {
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        json.WriteStartArray("added_tokens");
        for (int id = 0; id < trained.SpecialTokens.Count; id++)
        {
            json.WriteStartObject();
            json.WriteNumber("id", id);
            json.WriteString("content", trained.SpecialTokens[id]);
            json.WriteBoolean("single_word", false);
            json.WriteBoolean("lstrip", false);
            json.WriteBoolean("rstrip", false);
            json.WriteBoolean("normalized", false);
            json.WriteBoolean("special", true);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNull("normalizer");
        WritePreTokenizer(json, trained.Pattern);
        WritePostProcessor(json, trained, beginToken);
        json.WritePropertyName("decoder");
        WriteByteLevel(json);
        WriteModel(json, trained);
        json.WriteEndObject();
    }

    private static void WritePreTokenizer(Utf8JsonWriter json, string pattern)
    {
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", pattern);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        WriteByteLevel(json);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteByteLevel(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", true);
        json.WriteBoolean("use_regex", false);
        json.WriteEndObject();
    }

    private static void WritePostProcessor(Utf8JsonWriter json, TrainedBpe trained, string? beginToken)
    {
        json.WritePropertyName("post_processor");
        if (beginToken is null)
        {
            WriteByteLevel(json);
            return;
        }

        json.WriteStartObject();
        json.WriteString("type", "TemplateProcessing");
        foreach ((string field, string[] sequences) in new[] { ("single", new[] { "A" }), ("pair", ["A", "B"]) })
        {
            json.WriteStartArray(field);
            for (int i = 0; i < sequences.Length; i++)
            {
                WritePiece(json, "SpecialToken", beginToken, i);
                WritePiece(json, "Sequence", sequences[i], i);
            }

            json.WriteEndArray();
        }

        json.WriteStartObject("special_tokens");
        json.WriteStartObject(beginToken);
        json.WriteString("id", beginToken);
        json.WriteStartArray("ids");
        json.WriteNumberValue(trained.SpecialTokens.ToList().IndexOf(beginToken));
        json.WriteEndArray();
        json.WriteStartArray("tokens");
        json.WriteStringValue(beginToken);
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WritePiece(Utf8JsonWriter json, string kind, string id, int typeId)
    {
        json.WriteStartObject();
        json.WriteStartObject(kind);
        json.WriteString("id", id);
        json.WriteNumber("type_id", typeId);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteModel(Utf8JsonWriter json, TrainedBpe trained)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        foreach (string field in new[] { "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix" })
        {
            json.WriteNull(field);
        }

        foreach (string field in new[] { "fuse_unk", "byte_fallback", "ignore_merges" })
        {
            json.WriteBoolean(field, false);
        }

        json.WriteStartObject("vocab");
        for (int id = 0; id < trained.Tokens.Count; id++)
        {
            json.WriteNumber(trained.Tokens[id], id);
        }

        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach ((string left, string right) in trained.Merges)
        {
            // As text, which every version of the reference library reads; byte-level tokens hold no space.
            json.WriteStringValue($"{left} {right}");
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}

using System.Text;
using System.Text.Json;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>tokenizer.json files small enough to derive the expected ids by hand, in a directory of their own.</summary>
internal sealed class SmallTokenizer : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("engine-tokenizer-").FullName;

    public string File => Path.Combine(_directory, "tokenizer.json");

    public string DirectoryPath => _directory;

    /// <summary>Vocabulary 0… in the given order, merges "a b", and the other fields of the file as JSON text.</summary>
    public static string Json(
        string[] vocabulary,
        string[] merges,
        string model = "",
        string normalizer = "null",
        string preTokenizer = "null",
        string postProcessor = "null",
        string decoder = "null",
        string added = "[]")
    {
        var vocab = new StringBuilder();
        for (int i = 0; i < vocabulary.Length; i++)
        {
            vocab.Append(i == 0 ? "" : ",").Append('"').Append(JsonEncodedText.Encode(vocabulary[i])).Append("\":").Append(i);
        }

        string list = string.Join(',', merges.Select(m => $"\"{JsonEncodedText.Encode(m)}\""));
        return $$"""
            {"version":"1.0","truncation":null,"padding":null,"added_tokens":{{added}},"normalizer":{{normalizer}},
            "pre_tokenizer":{{preTokenizer}},"post_processor":{{postProcessor}},"decoder":{{decoder}},
            "model":{"type":"BPE",{{model}}"vocab":{ {{vocab}} },"merges":[{{list}}]} }
            """;
    }

    public static string Added(int id, string content, string options = "") =>
        $$"""{"id":{{id}},"content":"{{JsonEncodedText.Encode(content)}}"{{(options.Length == 0 ? "" : "," + options)}}}""";

    public Tokenizer Load(string json)
    {
        System.IO.File.WriteAllText(File, json);
        return Tokenizer.Load(File);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);
}

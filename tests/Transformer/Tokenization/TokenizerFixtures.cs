using System.Text.Json;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>The parity fixtures, written by tests/fixtures/tokenizers/make.py with the reference library.</summary>
internal static class TokenizerFixtures
{
    /// <summary>tests/fixtures/tokenizers.</summary>
    public static string Root { get; } = Repository.PathOf("tests/fixtures/tokenizers");

    public static string PathOf(params string[] parts) => Path.Combine([Root, .. parts]);

    public static IEnumerable<JsonElement> Rows(params string[] parts)
    {
        string path = PathOf(parts);
        Assert.True(File.Exists(path), $"{path} is missing; run tests/fixtures/tokenizers/make.py");
        foreach (string line in File.ReadLines(path))
        {
            using JsonDocument document = JsonDocument.Parse(line);
            yield return document.RootElement.Clone();
        }
    }

    public static int[] Ids(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetInt32())];

    /// <summary>A text in a form that shows invisible characters in a failure message.</summary>
    public static string Show(string text) => "\"" + JsonEncodedText.Encode(text) + "\"";
}

using System.Text.Json;

namespace Engine.Cli.Tests;

/// <summary>The commands that read and write text, on a tiny model with a tokenizer.</summary>
public class TextCommandTests
{
    [Fact]
    public void Tokenize_goes_there_and_back()
    {
        using var directory = new TemporaryDirectory();
        string model = Fixtures.WriteTextModel(directory);
        string[] texts = ["select name", "Ünïcode \u2713 and \"quotes\"\n", ""];
        string input = string.Concat(texts.Select(t => $"\"{JsonEncodedText.Encode(t)}\"\n"));
        string ids = Command.Run(input, ["tokenize", "--model", model], default).Succeeded();
        string[] lines = ids.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(3, lines.Length);
        Assert.All(lines, line => Assert.Equal(0, JsonDocument.Parse(line).RootElement[0].GetInt32()));
        string back = Command.Run(ids, ["tokenize", "--model", Path.Combine(model, "tokenizer.json"), "--decode"], default).Succeeded();
        Assert.Equal(texts, back.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonDocument.Parse(l).RootElement.GetString()));
    }

    [Theory]
    [InlineData("\"a\"\n\nnot json\n", "line 3")]
    [InlineData("\"a\"\n[1]\n", "line 2")]
    [InlineData("\"\\ud800\"\n", "line 1")]
    public void Tokenize_names_the_line_that_is_wrong(string input, string part)
    {
        using var directory = new TemporaryDirectory();
        Command.Run(input, ["tokenize", "--model", Fixtures.WriteTextModel(directory)], default).FailedWith(1, part);
    }

    [Fact]
    public void Decode_refuses_ids_that_no_token_has()
    {
        using var directory = new TemporaryDirectory();
        Command.Run("[1]\n[1,99999]\n", ["tokenize", "--decode", "--model", Fixtures.WriteTextModel(directory)], default)
            .FailedWith(1, "line 2", "99999");
    }

    [Fact]
    public void Generate_streams_the_text_that_its_json_holds()
    {
        using var directory = new TemporaryDirectory();
        string model = Fixtures.WriteTextModel(directory);
        string[] arguments = ["generate", "--model", model, "--prompt", "@select name", "--max-new-tokens", "12", "--temperature", "0.9", "--seed", "5"];
        string streamed = Command.Run(arguments).Succeeded();
        using JsonDocument json = JsonDocument.Parse(Command.Run([.. arguments, "--json"]).Succeeded());
        Assert.Equal(json.RootElement.GetProperty("text").GetString() + Environment.NewLine, streamed);
        string file = directory.Write("prompt.txt", "@select name");
        Assert.Equal(streamed, Command.Run([.. arguments[..3], "--prompt-file", file, .. arguments[5..]]).Succeeded());
    }

    [Fact]
    public void An_adapter_learns_rows_by_heart_and_eval_measures_it()
    {
        using var directory = new TemporaryDirectory();
        string model = Fixtures.WriteTextModel(directory);
        string data = directory.Write("rows.jsonl", """
            {"prompt": "name of 7? ", "completion": "select name where age is 7"}
            {"prompt": "age of Ann? ", "completion": "select age where name is Ann"}
            """);
        string adapter = directory.File("adapter");
        Command.Run(
            "train", "--model", model, "--data", data, "--out", adapter, "--targets", "all-linear", "--rank", "16", "--alpha", "32",
            "--lr", "0.01", "--steps", "80", "--quiet").Succeeded();
        string predictions = directory.File("predictions.jsonl");
        using JsonDocument before = JsonDocument.Parse(Command.Run("eval", "--model", model, "--data", data, "--json").Succeeded());
        using JsonDocument after = JsonDocument.Parse(Command.Run(
            "eval", "--model", model, "--adapter", adapter, "--data", data, "--json", "--predictions", predictions).Succeeded());
        Assert.Equal(0, before.RootElement.GetProperty("exact_match").GetDouble());
        Assert.Equal(1, after.RootElement.GetProperty("exact_match").GetDouble());
        Assert.True(after.RootElement.GetProperty("loss").GetDouble() < 0.2 * before.RootElement.GetProperty("loss").GetDouble());
        JsonElement[] lines = [.. File.ReadLines(predictions).Select(l => JsonDocument.Parse(l).RootElement)];
        Assert.Equal("select name where age is 7", lines[0].GetProperty("generated").GetString());
        Assert.True(lines[1].GetProperty("match").GetBoolean());

        string text = Command.Run("generate", "--model", model, "--adapter", adapter, "--prompt", "age of Ann? ", "--greedy").Succeeded();
        Assert.Equal("select age where name is Ann", text.Trim());
        Assert.Contains("exact match", Command.Run("eval", "--model", model, "--data", data, "--limit", "1").Succeeded(), StringComparison.Ordinal);
    }
}

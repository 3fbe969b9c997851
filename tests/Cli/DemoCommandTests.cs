using System.Text.Json;
using Engine.Cli.Demo;

namespace Engine.Cli.Tests;

/// <summary><c>engine demo</c> as a command; <see cref="Demo.DemoRunnerTests"/> holds what it has to learn.</summary>
public sealed class DemoCommandTests
{
    [Fact]
    public void The_figures_go_to_a_file_and_the_models_are_kept()
    {
        using var directory = new TemporaryDirectory();
        string file = directory.File("result.json");
        string output = directory.File("kept");
        CommandResult result = Command.Run("demo", "--json", file, "--out", output, "--steps", "2", "--rows", "2");
        Assert.Contains("exact match before", result.Succeeded(), StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
        JsonElement root = json.RootElement;
        Assert.Equal(["tasks", "merge", "mixed_batch", "total_seconds"], Names(root));
        Assert.Equal(["sql", "pandas"], root.GetProperty("tasks").EnumerateArray().Select(t => t.GetProperty("name").GetString()));
        foreach (JsonElement task in root.GetProperty("tasks").EnumerateArray())
        {
            Assert.Equal(["name", "exact_match_before", "exact_match_after", "seconds", "loss_first", "loss_last"], Names(task));
        }

        Assert.Equal(["max_abs_logit_diff", "base_restored", "hash_before", "hash_after"], Names(root.GetProperty("merge")));
        Assert.True(root.GetProperty("merge").GetProperty("base_restored").GetBoolean());
        Assert.Equal(["rows", "agrees_with_single"], Names(root.GetProperty("mixed_batch")));
        Assert.True(root.GetProperty("mixed_batch").GetProperty("agrees_with_single").GetBoolean());
        Assert.Equal(["base", "loss.svg", "merged-sql", "pandas", "sql"], Directory.GetFileSystemEntries(output).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Interrupting_the_training_of_the_base_leaves_a_checkpoint()
    {
        using var directory = new TemporaryDirectory();
        string output = directory.File("base");
        DemoModel.Unpack(output);
        using var source = new CancellationTokenSource();
        source.Cancel();
        CommandResult result = Command.Run("", ["demo", "base", "--out", output, "--steps", "3", "--threads", "2", "--quiet"], source.Token);
        Assert.Equal(130, result.Code);
        Assert.Contains("the same command goes on", result.Error, StringComparison.Ordinal);
        Assert.Equal("", result.Output);
        Assert.True(File.Exists(Path.Combine(output, "pretraining.safetensors")));
    }

    [Fact]
    public void The_base_is_trained_where_the_options_say()
    {
        using var directory = new TemporaryDirectory();
        Command.Run("demo", "base", "--out", directory.File("base"), "--device", "tpu").FailedWith(2, "--device", "tpu");
        Command.Run("demo", "base", "--out", directory.File("base"), "--steps", "0").FailedWith(2, "--steps");
        Assert.False(Directory.Exists(directory.File("base")));
    }

    private static IEnumerable<string> Names(JsonElement value) => value.EnumerateObject().Select(p => p.Name);
}

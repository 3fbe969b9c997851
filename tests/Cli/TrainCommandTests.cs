using System.Text.Json;

namespace Engine.Cli.Tests;

public class TrainCommandTests
{
    internal static string[] Arguments(string data, string output, params string[] more) =>
    [
        "train", "--model", Fixtures.Llama, "--data", data, "--out", output, "--targets", "q_proj,v_proj", "--dropout", "0.1",
        .. more.Contains("--lr") ? (string[])[] : ["--lr", "0.01"], "--batch-size", "4", "--seed", "3", .. more,
    ];

    [Fact]
    public void Train_writes_an_adapter_metrics_and_a_curve()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("adapter");
        string metrics = directory.File("metrics.jsonl");

        CommandResult result = Command.Run(Arguments(
            data, output, "--epochs", "2", "--rank", "4", "--eval", data, "--metrics", metrics, "--schedule", "linear"));

        Assert.Contains("adapter saved in", result.Succeeded(), StringComparison.Ordinal);
        Assert.Contains("held-out loss", result.Error, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(output, "adapter_model.safetensors")));
        Assert.StartsWith("<svg", File.ReadAllText(Path.Combine(output, "loss.svg")), StringComparison.Ordinal);
        JsonElement[] lines = [.. File.ReadLines(metrics).Select(l => JsonDocument.Parse(l).RootElement)];
        JsonElement[] steps = [.. lines.Where(l => l.TryGetProperty("loss", out _))];
        Assert.Equal(Enumerable.Range(1, 12), steps.Select(l => l.GetProperty("step").GetInt32()));
        foreach (string field in (string[])["grad_norm", "lr", "tokens", "tokens_per_second"])
        {
            Assert.All(steps, l => Assert.Equal(JsonValueKind.Number, l.GetProperty(field).ValueKind));
        }

        Assert.Equal(48, steps[0].GetProperty("tokens").GetInt32());
        Assert.Equal([6, 12], lines.Where(l => l.TryGetProperty("eval_loss", out _)).Select(l => l.GetProperty("step").GetInt32()));
        Assert.True(steps[^1].GetProperty("loss").GetDouble() < steps[0].GetProperty("loss").GetDouble());
    }

    [Fact]
    public void Quiet_prints_the_summary_only()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        CommandResult result = Command.Run(Arguments(data, directory.File("out"), "--steps", "2", "--quiet", "--json"));
        using JsonDocument json = JsonDocument.Parse(result.Succeeded());
        Assert.Equal(2, json.RootElement.GetProperty("steps").GetInt32());
        Assert.Equal("completed", json.RootElement.GetProperty("end").GetString());
        Assert.Equal("", result.Error);
    }

    [Fact]
    public void Dry_run_tells_what_would_be_trained_and_writes_nothing()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        string text = Command.Run(Arguments(data, output, "--epochs", "3", "--dry-run")).Succeeded();
        Assert.Contains("model.layers.0.self_attn.q_proj.lora_A.weight", text, StringComparison.Ordinal);
        Assert.Contains("optimizer", text, StringComparison.Ordinal);

        using JsonDocument json = JsonDocument.Parse(Command.Run(Arguments(data, output, "--epochs", "3", "--dry-run", "--json")).Succeeded());

        // Rank 8 on q [32, 32] and v [16, 32] of two layers: 2·8·(32 + 32 + 32 + 16), as in PEFT's own count (qv_default).
        Assert.Equal(1792, json.RootElement.GetProperty("trainable_parameters").GetInt64());
        Assert.Equal(18, json.RootElement.GetProperty("steps").GetInt32());
        Assert.Equal(24 * 12, json.RootElement.GetProperty("tokens").GetInt32());
        Assert.Equal(24 * 8, json.RootElement.GetProperty("labelled_tokens").GetInt32());
        Assert.Equal(2 * 4 * 1792, json.RootElement.GetProperty("memory_bytes").GetProperty("optimizer").GetInt64());
        Assert.False(Directory.Exists(output));
    }

    [Fact]
    public void Full_training_saves_a_model_that_loads()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("model");
        Command.Run("train", "--model", Fixtures.Llama, "--data", data, "--out", output, "--method", "full", "--steps", "3", "--lr", "0.001").Succeeded();
        string text = Command.Run("eval", "--model", output, "--data", data, "--loss-only").Succeeded();
        Assert.Contains("perplexity", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Options_override_the_configuration_file()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string config = directory.Write("config.json", """{"epochs": 2, "rank": 2, "lr": 0.5, "targets": ["o_proj"]}""");
        string text = Command.Run(
            "train", "--config", config, "--model", Fixtures.Llama, "--data", data, "--out", directory.File("out"),
            "--steps", "7", "--lr", "0.25", "--no-shuffle", "--dry-run", "--json").Succeeded();
        JsonElement options = JsonDocument.Parse(text).RootElement.GetProperty("options");
        Assert.Equal(7, options.GetProperty("steps").GetInt32());
        Assert.Equal(JsonValueKind.Null, options.GetProperty("epochs").ValueKind);
        Assert.Equal(0.25, options.GetProperty("lr").GetDouble());
        Assert.Equal(2, options.GetProperty("rank").GetInt32());
        Assert.False(options.GetProperty("shuffle").GetBoolean());
        Assert.Equal("o_proj", options.GetProperty("targets")[0].GetString());
    }

    [Fact]
    public void Training_goes_on_with_an_adapter_of_its_own_configuration()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string start = Path.Combine(Fixtures.Parity, "lora", "rslora", "adapter_init");
        string output = directory.File("out");
        Command.Run("train", "--model", Fixtures.Llama, "--data", data, "--out", output, "--adapter", start, "--steps", "2").Succeeded();
        using JsonDocument config = JsonDocument.Parse(File.ReadAllText(Path.Combine(output, "adapter_config.json")));
        Assert.True(config.RootElement.GetProperty("use_rslora").GetBoolean());
    }

    [Fact]
    public void A_run_into_another_runs_checkpoints_is_refused()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        Command.Run(Arguments(data, output, "--steps", "4", "--checkpoint-every", "2")).Succeeded();
        Command.Run(Arguments(data, output, "--steps", "4", "--quiet")).FailedWith(1, "checkpoint-2", "resume");
    }

    [Fact]
    public void Resuming_with_other_options_or_data_is_refused_and_says_which()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        Command.Run(Arguments(data, output, "--steps", "4", "--checkpoint-every", "2")).Succeeded();
        Command.Run(Arguments(data, output, "--steps", "4", "--quiet", "--resume", "--beta1", "0.8")).FailedWith(1, "beta1 was 0.9, is 0.8");
        string other = Fixtures.WriteRows(directory, "other.jsonl", rows: 23);
        Command.Run(Arguments(other, output, "--steps", "4", "--quiet", "--resume")).FailedWith(1, "it had 24 rows, now there are 23");
    }

    [Theory]
    [InlineData("\"lora_alpha\": 8", "\"lora_alpha\": 16")]
    [InlineData("\"use_rslora\": false", "\"use_rslora\": true")]
    [InlineData("\"lora_dropout\": 0.0", "\"lora_dropout\": 0.25")]
    public void Resuming_with_an_edited_adapter_configuration_is_refused(string old, string with)
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string config = directory.Write(
            "peft.json", "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 8, \"use_rslora\": false, \"lora_dropout\": 0.0, \"target_modules\": [\"q_proj\"]}");
        string[] arguments =
        [
            "train", "--model", Fixtures.Llama, "--data", data, "--out", directory.File("out"), "--peft-config", config,
            "--steps", "4", "--checkpoint-every", "2", "--quiet",
        ];
        Command.Run(arguments).Succeeded();
        string text = File.ReadAllText(config);
        Assert.Contains(old, text, StringComparison.Ordinal);
        File.WriteAllText(config, text.Replace(old, with, StringComparison.Ordinal));
        Command.Run([.. arguments, "--resume"]).FailedWith(1, "inputs.json", "adapter configuration");
        File.WriteAllText(config, text);
        Command.Run([.. arguments, "--resume"]).Succeeded();
    }

    [Fact]
    public void Held_out_rows_may_change_on_resumption_unless_they_decide_the_end()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string other = Fixtures.WriteRows(directory, "other.jsonl", rows: 5);
        foreach (string[] patience in (string[][])[[], ["--patience", "3"]])
        {
            string[] run = ["--steps", "4", "--checkpoint-every", "2", "--quiet", .. patience];
            string output = directory.File($"out-{patience.Length}");
            Command.Run(Arguments(data, output, [.. run, "--eval", data])).Succeeded();
            CommandResult resumed = Command.Run(Arguments(data, output, [.. run, "--eval", other, "--resume"]));
            if (patience.Length > 0)
            {
                resumed.FailedWith(1, "held-out rows");
            }
            else
            {
                resumed.Succeeded();
            }
        }
    }

    [Fact]
    public void Training_stops_early_on_packed_rows_with_recomputed_activations()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);

        // A rate of 0 leaves the held-out loss as it is: the first evaluation is the best, the next two are not better.
        string text = Command.Run(Arguments(
            data, directory.File("out"), "--eval", data, "--eval-every", "3", "--patience", "2", "--pack", "--max-length", "24",
            "--gradient-checkpointing", "--lr", "0", "--steps", "50", "--quiet", "--json")).Succeeded();
        using JsonDocument json = JsonDocument.Parse(text);
        Assert.Equal("stopped_early", json.RootElement.GetProperty("end").GetString());
        Assert.Equal(9, json.RootElement.GetProperty("steps").GetInt32());

        // Four sequences a step, each of two rows of 12 tokens.
        Assert.Equal(9 * 4 * 24, json.RootElement.GetProperty("tokens").GetInt32());
    }

    [Fact]
    public void Memory_that_is_limited_decides_how_a_steps_rows_are_spread()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        CommandResult planned = Command.Run(Arguments(
            data, directory.File("planned"), "--accumulate", "2", "--max-memory", "1TiB", "--steps", "2"));
        planned.Succeeded();
        Assert.Contains("8 rows in a forward pass, which is a step, no checkpointing", planned.Error, StringComparison.Ordinal);
        Command.Run([.. Arguments(data, directory.File("given"), "--steps", "2", "--quiet").Select(a => a == "4" ? "8" : a)]).Succeeded();
        Assert.Equal(
            File.ReadAllBytes(Path.Combine(directory.File("given"), "adapter_model.safetensors")),
            File.ReadAllBytes(Path.Combine(directory.File("planned"), "adapter_model.safetensors")));

        CommandResult refused = Command.Run(Arguments(data, directory.File("refused"), "--max-memory", "10KiB", "--steps", "2"));
        Assert.Contains("option \"max_memory\" is 10 KiB; one row takes", refused.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(directory.File("refused")));
    }

    [Fact]
    public void Recomputing_activations_does_not_change_a_byte()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        Command.Run(Arguments(data, directory.File("kept"), "--steps", "4", "--quiet")).Succeeded();
        Command.Run(Arguments(data, directory.File("again"), "--steps", "4", "--quiet", "--gradient-checkpointing")).Succeeded();
        Assert.Equal(
            File.ReadAllBytes(Path.Combine(directory.File("kept"), "adapter_model.safetensors")),
            File.ReadAllBytes(Path.Combine(directory.File("again"), "adapter_model.safetensors")));
    }

    [Fact]
    public void On_a_terminal_the_progress_is_one_line_that_is_drawn_over()
    {
        using var directory = new TemporaryDirectory();
        using var error = new StringWriter();
        string[] arguments = Arguments(Fixtures.WriteRows(directory), directory.File("out"), "--steps", "2");
        CommandResult result = Command.Run("", arguments, error, default, isErrorTerminal: true);
        result.Succeeded();
        Assert.Contains("\r\u2501", result.Error, StringComparison.Ordinal);
        Assert.Contains(new string('\u2501', 20) + " step 2/2  loss ", result.Error, StringComparison.Ordinal);
        Assert.EndsWith("\r\u001b[K", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', result.Error[result.Error.IndexOf('\r', StringComparison.Ordinal)..]);
    }

    [Fact]
    public void The_bases_own_dropout_is_named_as_not_applied()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string model = Fixtures.CopyModel(directory, Path.Combine(Fixtures.Parity, "arch", "gpt2"));
        string config = Path.Combine(model, "config.json");
        File.WriteAllText(config, File.ReadAllText(config)
            .Replace("\"attn_pdrop\": 0.0", "\"attn_pdrop\": 0.1", StringComparison.Ordinal)
            .Replace("\"resid_pdrop\": 0.0", "\"resid_pdrop\": 0.25", StringComparison.Ordinal));
        string[] arguments = ["train", "--model", model, "--data", data, "--out", directory.File("out"), "--steps", "1", "--dry-run"];
        CommandResult result = Command.Run(arguments);
        result.Succeeded();
        Assert.Contains("dropout (attn_pdrop 0.1, resid_pdrop 0.25) is not applied", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("dropout", Command.Run(Arguments(data, directory.File("out"), "--dry-run")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_wrong_option_is_told_with_one_full_stop()
    {
        CommandResult result = Command.Run("train", "--data", "x.jsonl");
        result.FailedWith(2, "See 'engine train --help'.");
        Assert.DoesNotContain("..", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Resuming_without_a_checkpoint_starts_from_the_beginning_with_a_note()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        CommandResult result = Command.Run(Arguments(data, directory.File("out"), "--steps", "2", "--resume"));
        result.Succeeded();
        Assert.Contains("no checkpoint yet", result.Error, StringComparison.Ordinal);
    }
}

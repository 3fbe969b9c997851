using System.Text;

namespace Engine.Cli.Tests;

/// <summary>Each kind of bad input gives its exit code, one clear message, no stack trace, and leaves nothing behind.</summary>
public class BadInputTests
{
    private const string Weights = "model.safetensors";

    [Fact]
    public void Missing_weights() =>
        RunDamaged(model => File.Delete(Path.Combine(model, Weights)), Weights, "is needed");

    [Fact]
    public void Truncated_weights() =>
        RunDamaged(model => Resize(Path.Combine(model, Weights), length => length - 100), Weights);

    [Fact]
    public void Weights_cut_off_in_the_header_length() =>
        RunDamaged(model => Resize(Path.Combine(model, Weights), _ => 5), Weights);

    [Fact]
    public void Header_longer_than_the_file() =>
        RunDamaged(model => Raw(model, "{}", headerLength: 1_000_000), Weights, "1000000");

    [Fact]
    public void Overlapping_tensors() =>
        RunDamaged(model => Raw(model, """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", data: 12), Weights, "overlap");

    [Fact]
    public void Negative_offsets() =>
        RunDamaged(model => Raw(model, """{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", data: 8), Weights, "-8");

    [Fact]
    public void Offsets_beyond_the_file() =>
        RunDamaged(model => Raw(model, """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", data: 4), Weights);

    [Fact]
    public void Wrong_dtype() =>
        RunDamaged(model => Replace(Path.Combine(model, Weights), "\"dtype\":\"F32\",\"shape\":[71,32]", "\"dtype\":\"I32\",\"shape\":[71,32]"), "I32");

    [Fact]
    public void Wrong_shape() =>
        RunDamaged(model => Replace(Path.Combine(model, Weights), "\"shape\":[71,32]", "\"shape\":[32,71]"), "[32, 71]", "[71, 32]");

    [Fact]
    public void Index_with_a_missing_shard() =>
        RunDamaged(
        "llama_sharded_fp16", model => File.Delete(Path.Combine(model, "model-00002-of-00003.safetensors")), "model-00002-of-00003.safetensors");

    [Fact]
    public void Index_that_leaves_the_directory() => RunDamaged(
        "llama_sharded_fp16",
        model => Replace(Path.Combine(model, "model.safetensors.index.json"), "model-00002-of-00003.safetensors", "../../../../../etc/passwd"),
        "../../../../../etc/passwd");

    [Fact]
    public void Pickle_file_alone() => RunDamaged(
        model => File.Move(Path.Combine(model, Weights), Path.Combine(model, "pytorch_model.bin")), "pytorch_model.bin", "pickle");

    [Fact]
    public void Pickle_file_under_the_name_of_safetensors() => RunDamaged(
        model => File.WriteAllBytes(Path.Combine(model, Weights), [.. "PK\u0003\u0004"u8, .. new byte[100]]), Weights, "pickle");

    [Fact]
    public void Unknown_architecture() =>
        RunDamaged(model => Replace(Path.Combine(model, "config.json"), "\"llama\"", "\"mamba\""), "mamba", "llama");

    [Fact]
    public void Adapter_for_another_base()
    {
        using var directory = new TemporaryDirectory();
        string adapter = Path.Combine(Fixtures.Parity, "lora", "gpt2_c_attn", "adapter_final");
        Refused(directory, ["merge", "--model", Fixtures.Llama, "--adapter", adapter, "--out", directory.File("out")], 1, "c_attn");
        string qwen = Path.Combine(Fixtures.Parity, "lora", "qwen3_base", "adapter_final");
        Refused(directory, ["generate", "--model", Fixtures.Llama, "--adapter", qwen, "--tokens", "1"], 1, "adapter_model.safetensors");
    }

    [Fact]
    public void Unsupported_PEFT_field()
    {
        using var directory = new TemporaryDirectory();
        string adapter = Fixtures.CopyModel(directory, Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_init"), "adapter");
        string config = Path.Combine(adapter, "adapter_config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"megatron_config\": null", "\"megatron_config\": {\"a\": 1}", StringComparison.Ordinal));
        Refused(directory, ["generate", "--model", Fixtures.Llama, "--adapter", adapter, "--tokens", "1"], 1, "megatron_config", "not supported");
        string file = directory.Write("peft.json", """{"peft_type": "LORA", "r": 4, "use_qalora": true}""");
        Refused(directory, [.. Train(directory, Fixtures.WriteRows(directory)), "--peft-config", file], 1, "use_qalora");
    }

    [Theory]
    [InlineData("{\"input_ids\":[1,2,3]}\n{\"input_ids\":[1,2,", ":2", "JSON")]
    [InlineData("{\"input_ids\":[1,2,3]}\n\n{\"input_ids\":\"x\"}", ":3", "input_ids")]
    [InlineData("{\"input_ids\":[1,2,3]}\n{\"input_ids\":[1,71,3]}", ":2", "71")]
    [InlineData("{\"input_ids\":[1,2,3],\"labels\":[1,2]}", ":1", "labels")]
    [InlineData("", "no rows")]
    [InlineData("{\"prompt\":\"a\",\"completion\":\"b\"}", "tokenizer.json")]
    public void Bad_rows(string content, params string[] parts)
    {
        using var directory = new TemporaryDirectory();
        string data = directory.Write("rows.jsonl", content);
        Refused(directory, Train(directory, data), 1, ["rows.jsonl", .. parts]);
        Refused(directory, ["eval", "--model", Fixtures.Llama, "--data", data], 1, parts);
    }

    [Fact]
    public void Sequence_longer_than_the_model()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory, rows: 2, length: 257);
        Refused(directory, Train(directory, data), 1, "257", "256");
        Refused(directory, [.. Train(directory, data), "--max-length", "300"], 1, "300", "256");
        string tokens = directory.Write("tokens.json", $"[[{string.Join(',', Enumerable.Repeat(1, 257))}]]");
        Refused(directory, ["logits", "--model", Fixtures.Llama, "--tokens", tokens, "--out", directory.File("l.safetensors")], 1, "257", "256");
        Refused(directory, ["generate", "--model", Fixtures.Llama, "--tokens", string.Join(',', Enumerable.Repeat(1, 257))], 1, "257", "256");
        Command.Run([.. Train(directory, data), "--truncate", "--steps", "1"]).Succeeded();
    }

    [Theory]
    [InlineData("[[1,2],[3]]", "row 1")]
    [InlineData("[[1,2],[3,71]]", "[1][1]", "71")]
    [InlineData("[[1,-2]]", "-2")]
    [InlineData("[1,2]", "list of lists")]
    [InlineData("[[1,2]", "JSON")]
    [InlineData("[]", "list of lists")]
    public void Bad_tokens_for_logits(string content, params string[] parts)
    {
        using var directory = new TemporaryDirectory();
        string tokens = directory.Write("tokens.json", content);
        Refused(directory, ["logits", "--model", Fixtures.Llama, "--tokens", tokens, "--out", directory.File("out")], 1, ["tokens.json", .. parts]);
    }

    [Fact]
    public void Token_ids_out_of_range_in_a_prompt()
    {
        using var directory = new TemporaryDirectory();
        Refused(directory, ["generate", "--model", Fixtures.Llama, "--tokens", "1,71"], 1, "71");
        Refused(directory, ["generate", "--model", Fixtures.Llama, "--tokens", "1,x"], 2, "--tokens", "x");
    }

    [Fact]
    public void Unwritable_output()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string file = directory.Write("file", "not a directory");
        string below = Path.Combine(file, "below");
        string adapter = Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_init");
        string tokens = directory.Write("tokens.json", "[[1,2]]");
        Refused(directory, ["train", "--model", Fixtures.Llama, "--data", data, "--out", below, "--steps", "1", "--quiet"], 1, below);
        Refused(directory, ["merge", "--model", Fixtures.Llama, "--adapter", adapter, "--out", below], 1, below);
        Refused(directory, ["logits", "--model", Fixtures.Llama, "--tokens", tokens, "--out", below], 1, below);
        Refused(directory, ["adapters", "combine", "--model", Fixtures.Llama, "--adapter", adapter, "--out", below], 1, below);
        Refused(directory, [.. Train(directory, data), "--metrics", below], 1, below);
        Refused(directory, ["demo", "--out", below, "--quiet", "--steps", "1", "--rows", "1"], 1, below);
        Assert.Equal("not a directory", File.ReadAllText(file));
    }

    [Fact]
    public void A_full_disk_ends_training_with_a_message()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "there is no /dev/full");
        using var directory = new TemporaryDirectory();
        Command.Run([.. Train(directory, Fixtures.WriteRows(directory)), "--metrics", "/dev/full"]).FailedWith(1, "/dev/full");
    }

    [Fact]
    public void Output_that_does_not_fit_leaves_nothing_half_written()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the file size limit is set with the shell's ulimit");
        using var directory = new TemporaryDirectory();
        string output = directory.File("merged");
        string adapter = Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_init");

        // Files of more than 20 KiB cannot be written.
        RunLimited(20, "merge", "--model", Fixtures.Llama, "--adapter", adapter, "--out", output).FailedWith(1, output);
        Assert.True(!Directory.Exists(output) || Directory.GetFileSystemEntries(output).Length == 0, "something half-written stayed");
    }

    [Theory]
    [InlineData("--steps", "1")]
    [InlineData("--steps", "4", "--checkpoint-every", "1")]
    public void Training_whose_output_does_not_fit_leaves_nothing_half_written(params string[] more)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the file size limit is set with the shell's ulimit");
        using var directory = new TemporaryDirectory();
        string output = directory.File("out");

        // The adapter has 1792 parameters of 4 bytes; its first checkpoint's moments alone are twice that.
        RunLimited(4, [.. Train(directory, Fixtures.WriteRows(directory)), .. more]).FailedWith(1, output);
        Assert.True(!Directory.Exists(output) || Directory.GetFileSystemEntries(output).Length == 0, "something half-written stayed");
    }

    [Fact]
    public void A_file_in_the_way_of_the_result_ends_training_with_a_message()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        Directory.CreateDirectory(Path.Combine(output, "adapter_model.safetensors"));
        Command.Run([.. Train(directory, data), "--steps", "1"]).FailedWith(1, "adapter_model.safetensors");
        Assert.Equal(["adapter_model.safetensors"], Directory.GetFileSystemEntries(output).Select(Path.GetFileName));

        File.WriteAllText(Path.Combine(output, "checkpoint-1"), "in the way");
        Command.Run([.. Train(directory, data), "--steps", "2", "--checkpoint-every", "1"]).FailedWith(1, "checkpoint-1");
        Assert.Equal(
            ["adapter_model.safetensors", "checkpoint-1"], Directory.GetFileSystemEntries(output).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void An_unwritable_output_leaves_the_metrics_of_an_earlier_run()
    {
        using var directory = new TemporaryDirectory();
        string metrics = directory.Write("metrics.jsonl", "{\"step\":1}\n");
        string below = Path.Combine(directory.Write("file", ""), "below");
        Command.Run(
            "train", "--model", Fixtures.Llama, "--data", Fixtures.WriteRows(directory), "--out", below, "--metrics", metrics, "--quiet")
            .FailedWith(1, below);
        Assert.Equal("{\"step\":1}\n", File.ReadAllText(metrics));
    }

    [Fact]
    public void An_adapter_that_could_not_be_replaced_is_no_adapter()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the file size limit is set with the shell's ulimit");
        using var directory = new TemporaryDirectory();
        string output = Fixtures.CopyModel(directory, Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_init"), "out");
        RunLimited(4, [.. Train(directory, Fixtures.WriteRows(directory)), "--steps", "1"]).FailedWith(1, output);
        Command.Run("generate", "--model", Fixtures.Llama, "--adapter", output, "--tokens", "1").FailedWith(1, "adapter_config.json");
    }

    // Files of more than so many KiB cannot be written; the signal that comes with it is ignored, as on a full disk there is none.
    private static CommandResult RunLimited(int kibibytes, params string[] args)
    {
        string dotnet = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";
        string program = Path.Combine(AppContext.BaseDirectory, "engine.dll");
        string command = $"trap '' XFSZ; ulimit -f {kibibytes}; exec '{dotnet}' '{program}' {string.Join(' ', args.Select(a => $"'{a}'"))}";
        using var process = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("bash", ["-c", command])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            // The runtime maps its own code through a file that would hit the limit too.
            Environment = { ["DOTNET_EnableWriteXorExecute"] = "0" },
        })!;
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return new CommandResult(process.ExitCode, "", error);
    }

    private static string[] Train(TemporaryDirectory directory, string data) =>
        ["train", "--model", Fixtures.Llama, "--data", data, "--out", directory.File("out"), "--quiet"];

    private static void RunDamaged(Action<string> damage, params string[] parts) => RunDamaged("llama", damage, parts);

    private static void RunDamaged(string source, Action<string> damage, params string[] parts)
    {
        using var directory = new TemporaryDirectory();
        string model = Fixtures.CopyModel(directory, Path.Combine(Fixtures.Parity, "arch", source));
        damage(model);
        string tokens = directory.Write("tokens.json", "[[1,2]]");
        string data = Fixtures.WriteRows(directory);
        Refused(directory, ["logits", "--model", model, "--tokens", tokens, "--out", directory.File("out")], 1, parts);
        Refused(directory, ["train", "--model", model, "--data", data, "--out", directory.File("out"), "--quiet"], 1, parts);
    }

    private static void Refused(TemporaryDirectory directory, string[] args, int code, params string[] parts)
    {
        Command.Run(args).FailedWith(code, parts);
        Assert.False(File.Exists(directory.File("out")) || Directory.Exists(directory.File("out")), "something was written");
        Assert.Empty(Directory.EnumerateFiles(directory.Path, "*.tmp", SearchOption.AllDirectories));
    }

    private static void Resize(string path, Func<long, long> length)
    {
        using var stream = new FileStream(path, FileMode.Open);
        stream.SetLength(length(stream.Length));
    }

    // The same number of bytes, so that offsets and the header's length stay right.
    private static void Replace(string path, string old, string with)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int at = bytes.AsSpan().IndexOf(Encoding.ASCII.GetBytes(old));
        Assert.True(at >= 0, $"{path} does not hold {old}");
        byte[] result = [.. bytes.AsSpan(0, at), .. Encoding.ASCII.GetBytes(with), .. bytes.AsSpan(at + old.Length)];
        File.WriteAllBytes(path, result);
    }

    private static void Raw(string model, string header, long? headerLength = null, int data = 0)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        File.WriteAllBytes(Path.Combine(model, Weights), [.. BitConverter.GetBytes(headerLength ?? json.Length), .. json, .. new byte[data]]);
    }
}

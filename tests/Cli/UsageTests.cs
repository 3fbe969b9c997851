using Engine.Tensors.Cuda;

namespace Engine.Cli.Tests;

public class UsageTests
{
    [Theory]
    [InlineData("")]
    [InlineData("demo")]
    [InlineData("demo base")]
    [InlineData("train")]
    [InlineData("eval")]
    [InlineData("generate")]
    [InlineData("logits")]
    [InlineData("merge")]
    [InlineData("adapters")]
    [InlineData("adapters combine")]
    [InlineData("adapters import")]
    [InlineData("inspect")]
    [InlineData("tokenize")]
    [InlineData("info")]
    [InlineData("kernels")]
    [InlineData("bench")]
    [InlineData("bench op")]
    [InlineData("bench train")]
    [InlineData("bench decode")]
    [InlineData("profile")]
    [InlineData("profile train")]
    [InlineData("profile bench train")]
    public void Every_command_has_help(string command)
    {
        string[] path = command.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        CommandResult result = Command.Run([.. path, "--help"]);
        string text = result.Succeeded();
        Assert.Contains("--device", text, StringComparison.Ordinal);
        Assert.Equal("", result.Error);
        if (path.Length > 0 && command != "adapters")
        {
            Assert.Contains($"engine {command} ", text, StringComparison.Ordinal);
            Assert.Contains("Example", text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Train_offers_every_training_option()
    {
        string text = Command.Run("train", "--help").Succeeded();
        foreach (Engine.Lora.TrainingOption option in Engine.Lora.TrainingOptions.All)
        {
            Assert.Contains(option.Name == "shuffle" ? "--no-shuffle" : option.CommandLineName, text, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Version_is_printed() => Assert.StartsWith("engine 0.", Command.Run("--version").Succeeded(), StringComparison.Ordinal);

    [Theory]
    [InlineData("command", "")]
    [InlineData("frobnicate", "frobnicate")]
    [InlineData("--model", "eval")]
    [InlineData("--frobnicate", "info --frobnicate")]
    [InlineData("cuda:n", "info --device cuda:")]
    [InlineData("cuda:first", "info --device cuda:first")]
    [InlineData("cuda:-1", "info --device cuda:-1")]
    [InlineData("cuda:99999999999", "info --device cuda:99999999999")]
    [InlineData("cudax", "info --device cudax")]
    [InlineData("tpu", "info --device tpu")]
    [InlineData("--threads", "info --threads 0")]
    [InlineData("--lr", "train --lr fast")]
    [InlineData("--schedule", "train --schedule steep")]
    [InlineData("model", "train --data x.jsonl")]
    [InlineData("epochs", "train --model m --data d --out o --epochs 1 --steps 2")]
    [InlineData("rank", "train --model m --data d --out o --rank 0")]
    [InlineData("--dtype", "generate --model m --tokens 1 --dtype int8")]
    [InlineData("--op", "kernels --op frobnicate")]
    [InlineData("rmsnorm-bwd", "bench op --op frobnicate")]
    [InlineData("rows x columns", "bench op --op rmsnorm --shape 4096")]
    [InlineData("rows x columns", "bench op --op rmsnorm --shape 0x4096")]
    [InlineData("--shape", "bench op --op all --shape 4x4")]
    [InlineData("--ncu", "bench op --op all --ncu")]
    [InlineData("--ncu needs a GPU", "bench op --op add --ncu --device cpu")]
    [InlineData("even last dimension", "bench op --op rope --shape 1x2x3x5 --device cpu")]
    [InlineData("--steps", "bench train --model m --steps 0")]
    [InlineData("--type", "adapters combine --model m --adapter a --out o --type sum")]
    public void A_wrong_command_line_exits_with_2(string part, string commandLine) =>
        Command.Run(commandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries)).FailedWith(2, part);

    [Fact]
    public void A_device_that_is_not_there_is_told_with_the_remedy()
    {
        string? unavailable = CudaContext.WhyUnavailable();
        foreach (string name in (string[])["cuda", "cuda:0"])
        {
            CommandResult result = Command.Run("info", "--device", name);
            if (unavailable is null)
            {
                result.Succeeded();
            }
            else
            {
                result.FailedWith(1, unavailable);
            }
        }

        Command.Run("info", "--device", "cuda:64").FailedWith(1, unavailable ?? "there is no cuda:64");
    }

    [Fact]
    public void One_prompt_is_needed()
    {
        Command.Run("generate", "--model", Fixtures.Llama).FailedWith(2, "--prompt");
        Command.Run("generate", "--model", Fixtures.Llama, "--prompt", "a", "--tokens", "1").FailedWith(2, "--prompt", "--tokens");
        Command.Run("generate", "--model", Fixtures.Llama, "--prompt", "a").FailedWith(1, "tokenizer.json");
    }

    [Fact]
    public void Missing_files_are_named()
    {
        using var directory = new TemporaryDirectory();
        string missing = directory.File("missing");
        Command.Run("inspect", missing).FailedWith(1, missing);
        Command.Run("eval", "--model", missing, "--data", missing).FailedWith(1, missing);
        Command.Run("tokenize", "--model", missing).FailedWith(1, missing);
        Command.Run("generate", "--model", Fixtures.Llama, "--adapter", missing, "--tokens", "1").FailedWith(1, missing);
        Command.Run("train", "--config", missing).FailedWith(1, missing);
    }

    [Fact]
    public void The_result_never_overwrites_what_is_read()
    {
        using var directory = new TemporaryDirectory();
        string adapter = Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_init");
        Command.Run("merge", "--model", Fixtures.Llama, "--adapter", adapter, "--out", Fixtures.Llama + "/").FailedWith(2, "--out");
        Command.Run("train", "--model", Fixtures.Llama, "--data", Fixtures.WriteRows(directory), "--out", Fixtures.Llama, "--quiet").FailedWith(1, "out");
    }

    [Theory]
    [InlineData("dir", "dir", 1)]
    [InlineData("dir:0.5", "dir", 0.5)]
    [InlineData("dir:-2e-1", "dir", -0.2)]
    [InlineData(@"C:\adapter", @"C:\adapter", 1)]
    [InlineData(@"C:\adapter:2", @"C:\adapter", 2)]
    [InlineData("a:b", "a:b", 1)]
    public void Adapter_arguments_carry_weights(string text, string directory, double weight)
    {
        AdapterArgument parsed = AdapterArgument.Parse(text);
        Assert.Equal((directory, weight), (parsed.Directory, parsed.Weight));
    }

    [Fact]
    public void A_directory_with_a_number_after_a_colon_is_a_directory()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "names have no colons");
        using var directory = new TemporaryDirectory();
        string path = directory.File("v:2");
        Directory.CreateDirectory(path);
        Assert.Equal(new AdapterArgument(path, 1), AdapterArgument.Parse(path));
    }
}

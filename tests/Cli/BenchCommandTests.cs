using System.Text.Json;
using Engine.Cli.Bench;
using Engine.Tensors;

namespace Engine.Cli.Tests;

public class BenchCommandTests
{
    // Small extents with the meaning that each op gives them.
    private static readonly Dictionary<string, string> s_shapes = new()
    {
        ["rows×columns"] = "6x8",
        ["rows×vocabulary"] = "5x11",
        ["tensors×elements"] = "3x70",
        ["ids×vocabulary×width"] = "6x9x4",
        ["batch×tokens×heads×head dim"] = "2x5x2x8",
        ["batch×tokens×heads×key heads×head dim"] = "2x5x4x2x8",
        ["batch×keys×heads×key heads×head dim"] = "2x5x4x2x8",
        ["m×n×k"] = "6x7x8",
        ["rows×inputs×outputs×rank"] = "6x8x10x2",
        ["rows×columns×rank"] = "6x8x2",
        ["rows×inputs×outputs"] = "6x8x10",
        ["batch×tokens×inputs×outputs×rank×adapters"] = "4x2x8x10x2x3",
        ["outputs×inputs×rank"] = "6x8x2",
        ["layers×outputs×inputs×rank"] = "3x6x8x2",
    };

    public static TheoryData<string> Ops => [.. OpBench.All.Select(b => b.Name)];

    [Theory]
    [MemberData(nameof(Ops))]
    public void Every_op_runs_alone(string op)
    {
        OpBench bench = OpBench.Get(op);
        int[] extents = bench.Parse(s_shapes[bench.Extents]);
        foreach (DType dtype in (DType[])[DType.F32, DType.BF16])
        {
            using var tensors = new BenchTensors(Device.Cpu);
            Action call = bench.Make(tensors, extents, dtype);
            call();
            call();
            Assert.True(tensors.Bytes > 0);
            Assert.True(bench.Case(extents, dtype).Bytes > 0);
        }
    }

    [Fact]
    public void An_ops_figures_are_printed_and_written()
    {
        using var directory = new TemporaryDirectory();
        string file = directory.File("op.json");
        string text = Command.Run("bench", "op", "--op", "rmsnorm", "--shape", "64×128", "--iterations", "3", "--device", "cpu", "--json", file).Succeeded();
        Assert.Contains("RmsNorm.Forward[64, 128]", text, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
        JsonElement result = json.RootElement.GetProperty("results")[0];
        Assert.True(result.GetProperty("microseconds_min").GetDouble() <= result.GetProperty("microseconds_median").GetDouble());
        Assert.Equal((2 * 64 * 128 * 4) + (128 * 4) + (64 * 4), result.GetProperty("bytes").GetInt64());
        Assert.Equal("cpu", json.RootElement.GetProperty("device").GetString());
    }

    [Theory]
    [InlineData("linear", "5x8x6", 6)]
    [InlineData("merge", "6x8", 4)]
    [InlineData("mixed", "5x8x6x3", 2)]
    public void Adapters_are_timed_in_turns(string kind, string shape, int figures)
    {
        using var directory = new TemporaryDirectory();
        string file = directory.File("lora.json");
        string text = Command.Run(
            "bench", "lora", "--kind", kind, "--shapes", shape, "--ranks", "2,3", "--rounds", "3", "--samples", "2", "--device", "cpu", "--json", file).Succeeded();
        Assert.Contains("ratio", text, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
        JsonElement[] cases = [.. json.RootElement.GetProperty("cases").EnumerateArray()];
        Assert.Equal([2, 3], cases.Select(c => c.GetProperty("rank").GetInt32()).Distinct());
        Assert.Equal(2 * figures, cases.Sum(c => c.GetProperty("results").GetArrayLength()));
        foreach (JsonElement result in cases.SelectMany(c => c.GetProperty("results").EnumerateArray()))
        {
            Assert.False(result.TryGetProperty("failure", out JsonElement failure), failure.ToString());
            double[] rounds = [.. result.GetProperty("us_of_rounds").EnumerateArray().Select(v => v.GetDouble())];
            Assert.Equal(3, rounds.Length);
            Assert.InRange(result.GetProperty("us_min").GetDouble(), 1e-9, rounds.Min());
        }
    }

    [Theory]
    [InlineData("5x8", "2", "--shapes has \"5x8\"; expected rows x inputs x outputs")]
    [InlineData("5x8x6", "0", "--ranks has \"0\"")]
    [InlineData(",", "2", "separated by commas")]
    public void Shapes_and_ranks_of_adapters_are_checked(string shapes, string ranks, string message) =>
        Command.Run("bench", "lora", "--shapes", shapes, "--ranks", ranks, "--device", "cpu").FailedWith(2, message);

    [Fact]
    public void Random_tensors_differ_and_hold_the_whole_block()
    {
        using var tensors = new BenchTensors(Device.Cpu);
        float[] first = tensors.Normal([1500, 1000], DType.F32).ToArray<float>();
        float[] second = tensors.Normal([1500, 1000], DType.F32).ToArray<float>();
        Assert.NotEqual(first, second);
        Assert.InRange(first.Average(v => (double)v * v), 0.98, 1.02);
        Assert.All(tensors.Positive([1000], DType.F32).ToArray<float>(), v => Assert.True(v >= 0));
    }

    [Theory]
    [InlineData("lora")]
    [InlineData("full")]
    public void Training_steps_are_timed(string method)
    {
        using var directory = new TemporaryDirectory();
        string file = directory.File("train.json");
        string[] full = method == "full" ? ["--full", "--gradient-checkpointing"] : ["--rank", "4", "--targets", "q_proj,v_proj"];
        string text = Command.Run(
            ["bench", "train", "--model", Fixtures.Llama, "--batch", "2", "--length", "16", "--steps", "4", "--device", "cpu", "--json", file, .. full]).Succeeded();
        Assert.Contains("tokens/s", text, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
        JsonElement root = json.RootElement;
        double[] steps = [.. root.GetProperty("ms_per_step_all").EnumerateArray().Select(v => v.GetDouble())];
        Assert.Equal(4, steps.Length);
        double median = root.GetProperty("ms_per_step_median").GetDouble();
        Assert.InRange(median, steps.Min(), steps.Max());
        Assert.Equal(32_000 / median, root.GetProperty("tokens_per_second").GetDouble(), 1e-6 * 32_000 / median);
        Assert.Equal(7, root.GetProperty("losses").GetArrayLength());
        foreach (string field in (string[])["peak_allocated_bytes", "seconds_to_first_step", "seconds_to_load", "load_bytes_per_second", "model_flops_per_step"])
        {
            Assert.True(root.GetProperty(field).GetDouble() > 0, field);
        }

        Assert.Equal((0, "f32", method, false), (
            root.GetProperty("peak_reserved_bytes").GetInt64(), root.GetProperty("dtype").GetString(), root.GetProperty("method").GetString(),
            root.GetProperty("graphs").GetBoolean()));
    }

    [Fact]
    public void Decoding_is_timed()
    {
        using var directory = new TemporaryDirectory();
        string file = directory.File("decode.json");
        string[] arguments = ["bench", "decode", "--model", Fixtures.Llama, "--batch", "3", "--prompt", "5", "--device", "cpu"];
        Command.Run([.. arguments, "--tokens", "6", "--json", file]).Succeeded();
        using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(file));
        Assert.True(json.RootElement.GetProperty("tokens_per_second").GetDouble() > 0);
        Assert.True(json.RootElement.GetProperty("prefill_ms_median").GetDouble() > 0);
        Command.Run([.. arguments, "--tokens", "300"]).FailedWith(2, "longest sequence is 256");
    }
}

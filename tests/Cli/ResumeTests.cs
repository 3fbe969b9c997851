using System.Diagnostics;
using System.Text;

namespace Engine.Cli.Tests;

/// <summary>Interrupted and resumed training gives the bytes of training that was never interrupted.</summary>
public class ResumeTests
{
    private const string Weights = "adapter_model.safetensors";

    [Fact]
    public void Cancelling_writes_a_checkpoint_exits_with_130_and_resumes_to_the_same_bytes()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string[] run = ["--steps", "12", "--accumulate", "2", "--schedule", "cosine", "--warmup", "2"];
        string whole = directory.File("whole");
        Command.Run(TrainCommandTests.Arguments(data, whole, run)).Succeeded();

        string output = directory.File("out");
        string metrics = directory.File("metrics.jsonl");
        string[] arguments = TrainCommandTests.Arguments(data, output, [.. run, "--metrics", metrics]);
        using var source = new CancellationTokenSource();
        using var error = new CancellingWriter("step 5/12", source);
        CommandResult cancelled = Command.Run("", arguments, error, source.Token);
        Assert.Equal(130, cancelled.Code);
        Assert.Contains("--resume", cancelled.Error, StringComparison.Ordinal);
        Assert.Contains("checkpoint-5", cancelled.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(output, Weights)));

        // What a killed run had written after its checkpoint is dropped.
        File.AppendAllText(metrics, "{\"step\":6,\"loss\":1}\n{\"step\":7,\"lo");
        Command.Run([.. arguments, "--resume"]).Succeeded();
        AssertSameBytes(whole, output);
        Assert.Equal(Enumerable.Range(1, 12), StepsIn(metrics));
    }

    [Theory]
    [InlineData(6)]
    [InlineData(9)] // the one that stops the run
    public void Cancelling_an_evaluation_leaves_it_out_and_resuming_makes_it_again(int step)
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string[] run = ["--steps", "20", "--eval", data, "--eval-every", "3", "--patience", "2", "--lr", "0"];
        string wholeMetrics = directory.File("whole.jsonl");
        Command.Run(TrainCommandTests.Arguments(data, directory.File("whole"), [.. run, "--metrics", wholeMetrics])).Succeeded();

        string output = directory.File("out");
        string metrics = directory.File("metrics.jsonl");
        string[] arguments = TrainCommandTests.Arguments(data, output, [.. run, "--metrics", metrics]);

        // Told of a step that an evaluation follows at once.
        using var source = new CancellationTokenSource();
        using var error = new CancellingWriter($"step {step}/20", source);
        Assert.Equal(130, Command.Run("", arguments, error, source.Token).Code);
        Assert.True(Directory.Exists(Path.Combine(output, $"checkpoint-{step}")));
        Assert.Equal(step == 6 ? [3] : [3, 6], EvaluationsIn(metrics));

        Command.Run([.. arguments, "--resume"]).Succeeded();
        Assert.Equal([3, 6, 9], EvaluationsIn(wholeMetrics));
        Assert.Equal(EvaluationsIn(wholeMetrics), EvaluationsIn(metrics));
        Assert.Equal(Enumerable.Range(1, 9), StepsIn(metrics));
        Assert.Empty(Directory.EnumerateDirectories(output, "*.tmp"));
    }

    [Fact]
    public void A_checkpoint_without_its_state_does_not_count()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        string[] arguments = TrainCommandTests.Arguments(data, output, "--steps", "6", "--checkpoint-every", "1");
        Command.Run(arguments).Succeeded();
        Assert.Equal(["checkpoint-4", "checkpoint-5"], Directory.EnumerateDirectories(output).Select(Path.GetFileName).Order());
        File.Delete(Path.Combine(output, "checkpoint-5", "state.safetensors"));
        CommandResult resumed = Command.Run([.. arguments, "--resume"]);
        resumed.Succeeded();
        Assert.Contains("going on from " + Path.Combine(output, "checkpoint-4"), resumed.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Killing_the_program_in_the_middle_and_resuming_gives_the_same_bytes()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string whole = directory.File("whole");
        string[] run = ["--steps", "400", "--checkpoint-every", "7", "--quiet"];
        Command.Run(TrainCommandTests.Arguments(data, whole, run)).Succeeded();

        string output = directory.File("out");
        string metrics = directory.File("metrics.jsonl");
        string[] arguments = TrainCommandTests.Arguments(data, output, [.. run, "--metrics", metrics]);
        int killedAt = KillAfter(arguments, metrics, steps: 20);
        Assert.InRange(killedAt, 20, 399);
        Command.RunProcess(null, [.. arguments, "--resume"]).Succeeded();
        AssertSameBytes(whole, output);
        Assert.Equal(Enumerable.Range(1, 400), StepsIn(metrics));
    }

    [Fact]
    public void The_thread_count_does_not_change_a_byte()
    {
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string one = directory.File("one");
        string two = directory.File("two");
        foreach ((string output, string threads) in ((string, string)[])[(one, "1"), (two, "2")])
        {
            Command.RunProcess(
                new Dictionary<string, string> { ["ENGINE_THREADS"] = threads },
                TrainCommandTests.Arguments(data, output, "--steps", "20", "--accumulate", "2", "--quiet")).Succeeded();
        }

        AssertSameBytes(one, two);
    }

    [Fact]
    public void Interrupting_the_process_exits_with_130()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "signals are sent with kill");
        using var directory = new TemporaryDirectory();
        string data = Fixtures.WriteRows(directory);
        string output = directory.File("out");
        string metrics = directory.File("metrics.jsonl");
        using Process process = Command.Start(
            null, TrainCommandTests.Arguments(data, output, "--steps", "100000", "--metrics", metrics, "--quiet"));
        WaitForSteps(process, metrics, 3);
        using Process kill = Process.Start("kill", [InterruptSignal(), $"{process.Id}"]);
        Assert.True(process.WaitForExit(60_000), "the program did not stop");
        Assert.Equal(130, process.ExitCode);
        Assert.Contains("--resume", process.StandardError.ReadToEnd(), StringComparison.Ordinal);
        Assert.NotEmpty(Directory.EnumerateDirectories(output, "checkpoint-*"));
    }

    // A job that a script put into the background ignores SIGINT, and its children inherit that; SIGTERM takes the same path.
    private static string InterruptSignal()
    {
        const string Status = "/proc/self/status";
        string? ignored = File.Exists(Status)
            ? File.ReadLines(Status).FirstOrDefault(l => l.StartsWith("SigIgn:", StringComparison.Ordinal))
            : null;
        bool ignoresInterrupt = ignored is not null && (Convert.ToUInt64(ignored["SigIgn:".Length..].Trim(), 16) & 2) != 0;
        return ignoresInterrupt ? "-TERM" : "-INT";
    }

    private static int KillAfter(string[] arguments, string metrics, int steps)
    {
        using Process process = Command.Start(null, arguments);
        WaitForSteps(process, metrics, steps);
        process.Kill();
        process.WaitForExit();
        return StepsIn(metrics).Count();
    }

    private static void WaitForSteps(Process process, string metrics, int steps)
    {
        var clock = Stopwatch.StartNew();
        while (!File.Exists(metrics) || StepsIn(metrics).Count() < steps)
        {
            Assert.False(process.HasExited, "the program ended by itself");
            Assert.True(clock.Elapsed < TimeSpan.FromMinutes(2), "the program made no steps");
            Thread.Sleep(1);
        }
    }

    private static IEnumerable<int> StepsIn(string metrics)
    {
        using var stream = new FileStream(metrics, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(stream);
        string[] lines = reader.ReadToEnd().Split('\n');

        // The last piece is empty, or a line that is not complete yet.
        return [.. lines.SkipLast(1).Where(l => l.Contains("\"loss\"", StringComparison.Ordinal)).Select(StepOf)];
    }

    private static IEnumerable<int> EvaluationsIn(string metrics) =>
        [.. File.ReadLines(metrics).Where(l => l.Contains("\"eval_loss\"", StringComparison.Ordinal)).Select(StepOf)];

    private static int StepOf(string line)
    {
        using var json = System.Text.Json.JsonDocument.Parse(line);
        return json.RootElement.GetProperty("step").GetInt32();
    }

    private static void AssertSameBytes(string expected, string actual) => Assert.True(
        File.ReadAllBytes(Path.Combine(expected, Weights)).AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(actual, Weights))),
        "the adapters differ");

    private sealed class CancellingWriter(string when, CancellationTokenSource source) : StringWriter
    {
        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value?.Contains(when, StringComparison.Ordinal) == true)
            {
                source.Cancel();
            }
        }

        public override Encoding Encoding => Encoding.UTF8;
    }
}

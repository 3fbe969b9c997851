using System.Globalization;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// A run's state on disk: <c>checkpoint-N/</c> with <c>state.safetensors</c> (trained parameters, moments, masters) and
/// <c>trainer_state.json</c> (step, options, early stopping). The directory is written under another name and renamed, so
/// that a checkpoint is whole or absent. The data order and all randomness follow from the seed and the step.
/// </summary>
public static class TrainingCheckpoint
{
    private const string Prefix = "checkpoint-";
    private const string StateFile = "state.safetensors";
    private const string InfoFile = "trainer_state.json";

    /// <summary>Writes <c>checkpoint-N</c> under <paramref name="output"/> and returns its path.</summary>
    /// <param name="output">The run's directory.</param>
    /// <param name="run">The run.</param>
    /// <param name="options">Its options.</param>
    /// <param name="also">Writes more files into the directory (the adapter in PEFT's form), given its temporary path.</param>
    /// <exception cref="EngineDataException">The disk is full or the place cannot be written; nothing half-written stays.</exception>
    public static string Save(string output, TrainingRun run, TrainingOptions options, Action<string>? also = null)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(options);
        string final = Path.Combine(output, Prefix + run.StepsDone.ToString(CultureInfo.InvariantCulture));
        string temporary = TemporaryName(final);
        try
        {
            Directory.CreateDirectory(temporary);
            OptimizerState.Save(Path.Combine(temporary, StateFile), run.Trained, run.Optimizer);
            AtomicFile.WriteAllText(Path.Combine(temporary, InfoFile), Info(run, options));
            also?.Invoke(temporary);
            Place(temporary, final);
            return final;
        }
        catch (Exception error)
        {
            TryDeleteAll(temporary);
            if (error is IOException or UnauthorizedAccessException)
            {
                throw new EngineDataException($"cannot write {final}: {error.Message}", error);
            }

            throw;
        }
    }

    /// <summary>The latest checkpoint under a run's directory, or null.</summary>
    public static string? Latest(string output) => All(output) is [.., var last] ? last : null;

    /// <summary>The complete checkpoints under a run's directory, the earliest first.</summary>
    public static IReadOnlyList<string> All(string output) => !Directory.Exists(output)
        ? []
        : [.. Directory.EnumerateDirectories(output, Prefix + "*")
            .Select(d => (Directory: d, Step: StepOf(d)))
            .Where(d => d.Step >= 0)
            .OrderBy(d => d.Step)
            .Select(d => d.Directory)];

    /// <summary>Refuses a continuation with other options than the checkpoint's.</summary>
    /// <exception cref="EngineDataException">The options differ, or the checkpoint's cannot be read.</exception>
    internal static void RequireResumable(string directory, TrainingOptions options)
    {
        string path = Path.Combine(directory, InfoFile);
        options.RequireResumable(ReadInfo(path).Options, path);
    }

    /// <summary>Brings a run to the state of a checkpoint.</summary>
    /// <exception cref="EngineDataException">A file is damaged, belongs to other parameters, or the options differ.</exception>
    public static void Load(string directory, TrainingRun run, TrainingOptions options)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(options);
        string infoPath = Path.Combine(directory, InfoFile);
        (int steps, EarlyStopping early, TrainingOptions saved) = ReadInfo(infoPath);
        options.RequireResumable(saved, infoPath);
        OptimizerState.Load(Path.Combine(directory, StateFile), run.Trained, run.Optimizer);
        if (run.Optimizer.Steps != steps)
        {
            throw new EngineDataException(
                $"{infoPath}: field \"step\" is {steps} but {StateFile} holds the state after step {run.Optimizer.Steps}");
        }

        run.EarlyStopping = early;
    }

    /// <summary>Takes a checkpoint away: under another name first, so that none is ever seen half-deleted.</summary>
    internal static void TryDelete(string checkpoint)
    {
        string aside = AsideName(checkpoint);
        try
        {
            Directory.Move(checkpoint, aside);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It takes room and does no harm.
            return;
        }

        TryDeleteAll(aside);
    }

    /// <summary>Removes what a run that was killed while it wrote or deleted a checkpoint left behind.</summary>
    internal static void RemoveUnfinished(string output)
    {
        foreach (string left in Directory.Exists(output) ? Directory.EnumerateDirectories(output, Prefix + "*.tmp") : [])
        {
            TryDeleteAll(left);
        }
    }

    private static string TemporaryName(string checkpoint) => $"{checkpoint}.{Environment.ProcessId:x}.tmp";

    private static string AsideName(string checkpoint) => $"{checkpoint}.{Environment.ProcessId:x}.old.tmp";

    // An earlier checkpoint of the same step is deleted only when the new one is in its place.
    private static void Place(string temporary, string final)
    {
        if (!Directory.Exists(final))
        {
            Directory.Move(temporary, final);
            return;
        }

        string aside = AsideName(final);
        TryDeleteAll(aside);
        Directory.Move(final, aside);
        try
        {
            Directory.Move(temporary, final);
        }
        catch
        {
            Directory.Move(aside, final);
            throw;
        }

        TryDeleteAll(aside);
    }

    private static void TryDeleteAll(string directory)
    {
        try
        {
            Directory.Delete(directory, recursive: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Not there, or it takes room and does no harm; a failure before it is the one to report.
        }
    }

    private static int StepOf(string directory) =>
        int.TryParse(
            Path.GetFileName(directory).AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int step) &&
        File.Exists(Path.Combine(directory, InfoFile)) && File.Exists(Path.Combine(directory, StateFile))
            ? step
            : -1;

    private static string Info(TrainingRun run, TrainingOptions options)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteNumber("step", run.StepsDone);
            if (double.IsFinite(run.EarlyStopping.Best))
            {
                writer.WriteNumber("best_eval_loss", run.EarlyStopping.Best);
            }

            writer.WriteNumber("evaluations_since_best", run.EarlyStopping.SinceBest);
            writer.WritePropertyName("options");
            writer.WriteRawValue(options.ToJson());
            writer.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(stream.ToArray()) + "\n";
    }

    private static (int Steps, EarlyStopping Early, TrainingOptions Options) ReadInfo(string path)
    {
        try
        {
            byte[] bytes = File.ReadAllBytes(path);
            using JsonDocument document = JsonDocument.Parse(bytes);
            JsonElement root = document.RootElement;
            double best = root.TryGetProperty("best_eval_loss", out JsonElement value) ? value.GetDouble() : double.PositiveInfinity;
            var early = new EarlyStopping(best, root.GetProperty("evaluations_since_best").GetInt32());
            byte[] options = System.Text.Encoding.UTF8.GetBytes(root.GetProperty("options").GetRawText());
            return (root.GetProperty("step").GetInt32(), early, TrainingOptions.Parse(options, path));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException or KeyNotFoundException
            or InvalidOperationException or FormatException)
        {
            throw new EngineDataException($"{path}: not a trainer state that this program wrote: {error.Message}", error);
        }
    }
}

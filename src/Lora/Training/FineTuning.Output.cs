using Engine.Tensors;

namespace Engine.Lora;

public sealed partial class FineTuning
{
    private const int KeptCheckpoints = 2;

    private static void RequireFreshOutput(TrainingOptions options)
    {
        string output = Path.GetFullPath(options.Out!);
        if (output == Path.GetFullPath(options.Model!))
        {
            throw new EngineDataException($"option \"out\" is {options.Out}, the base model's own directory; give another one for the result");
        }

        if (!options.Resume && TrainingCheckpoint.Latest(output) is { } earlier)
        {
            throw new EngineDataException(
                $"{options.Out} holds {Path.GetFileName(earlier)} of an earlier run; resume it, give another directory, or delete its checkpoints");
        }
    }

    /// <summary>Finds out whether the output directory can be written, and leaves everything as it was.</summary>
    /// <exception cref="EngineDataException">It cannot be written.</exception>
    public void RequireWritable()
    {
        string directory = Options.Out!;
        var missing = new List<string>();
        for (string? d = Path.GetFullPath(directory); d is not null && !Directory.Exists(d); d = Path.GetDirectoryName(d))
        {
            missing.Add(d);
        }

        string probe = Path.Combine(directory, $".{Environment.ProcessId:x}.probe");
        try
        {
            AtomicFile.WriteAllText(probe, "");
            File.Delete(probe);
        }
        catch (EngineDataException error)
        {
            throw new EngineDataException($"cannot write to {directory}: {error.InnerException?.Message ?? error.Message}", error);
        }
        finally
        {
            missing.ForEach(TryDeleteEmpty);
        }
    }

    private string SaveCheckpoint()
    {
        string saved = TrainingCheckpoint.Save(Options.Out!, Run, Options, directory =>
        {
            if (Adapter is not null)
            {
                AdapterFile.Save(Adapter, directory);
            }

            _inputs!.Save(directory);
            History.Save(Path.Combine(directory, TrainingHistory.FileName));
        });
        foreach (string old in TrainingCheckpoint.All(Options.Out!).SkipLast(KeptCheckpoints))
        {
            TrainingCheckpoint.TryDelete(old);
        }

        return saved;
    }

    private static void TryDeleteEmpty(string directory)
    {
        try
        {
            Directory.Delete(directory);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It was not made, or somebody has put something into it.
        }
    }
}

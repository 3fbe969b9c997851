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

    // Finds out before the first step, not after the last one.
    private static void RequireWritable(string directory)
    {
        bool existed = Directory.Exists(directory);
        string probe = Path.Combine(directory, $".{Environment.ProcessId:x}.probe");
        try
        {
            AtomicFile.WriteAllText(probe, "");
            File.Delete(probe);
        }
        catch (EngineDataException error)
        {
            if (!existed && Directory.Exists(directory))
            {
                Directory.Delete(directory);
            }

            throw new EngineDataException($"cannot write to {directory}: {error.InnerException?.Message ?? error.Message}", error);
        }
    }

    // What a run that was killed while it wrote a checkpoint left behind.
    private static void RemoveUnfinished(string directory)
    {
        foreach (string left in Directory.EnumerateDirectories(directory, "checkpoint-*.tmp"))
        {
            TryDelete(left);
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
            TryDelete(old);
        }

        return saved;
    }

    private static void TryDelete(string directory)
    {
        try
        {
            Directory.Delete(directory, recursive: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It takes room and does no harm.
        }
    }
}

using System.Globalization;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// Writes a model's weights into a directory: <c>model.safetensors</c>, or shards and an index when they are larger
/// than a shard may be. Shards are staged under temporary names and take their places only when all are complete; weights
/// of the other form that an earlier save left there are removed, so that no reader mixes old and new.
/// </summary>
public static class CheckpointWriter
{
    /// <summary>The default size of a shard: 5 GB, as in transformers.</summary>
    public const long DefaultMaxShardSize = 5_000_000_000;

    private const string SingleFile = "model.safetensors";

    /// <summary>Writes the tensors.</summary>
    /// <param name="directory">The model directory; created if needed.</param>
    /// <param name="entries">The tensors, in the order in which they are dealt to shards.</param>
    /// <param name="maxShardSize">Most bytes of tensor data in one file; a larger tensor gets a file of its own.</param>
    /// <returns>The files written, the index last.</returns>
    /// <exception cref="EngineDataException">The place cannot be written or the disk is full; no new file stays.</exception>
    public static IReadOnlyList<string> Write(string directory, IReadOnlyList<SafetensorsEntry> entries, long maxShardSize = DefaultMaxShardSize)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentNullException.ThrowIfNull(entries);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxShardSize);
        List<List<SafetensorsEntry>> shards = Deal(entries, maxShardSize);
        if (shards.Count == 1)
        {
            string path = Path.Combine(directory, SingleFile);
            SafetensorsWriter.Write(path, shards[0]);
            RemoveStale(directory, [SingleFile]);
            return [path];
        }

        string[] names = [.. Enumerable.Range(1, shards.Count).Select(i => string.Create(CultureInfo.InvariantCulture, $"model-{i:d5}-of-{shards.Count:d5}.safetensors"))];
        CheckNames(entries);
        StageAndPlace(directory, names, shards);
        CheckpointIndex.Write(
            Path.Combine(directory, CheckpointIndex.FileName),
            shards.SelectMany((shard, i) => shard.Select(entry => KeyValuePair.Create(entry.Name, names[i]))),
            entries.Sum(entry => entry.ByteLength));
        RemoveStale(directory, [.. names, CheckpointIndex.FileName]);
        return [.. names.Append(CheckpointIndex.FileName).Select(name => Path.Combine(directory, name))];
    }

    private static List<List<SafetensorsEntry>> Deal(IReadOnlyList<SafetensorsEntry> entries, long maxShardSize)
    {
        List<List<SafetensorsEntry>> shards = [[]];
        long size = 0;
        foreach (SafetensorsEntry entry in entries)
        {
            if (shards[^1].Count > 0 && size + entry.ByteLength > maxShardSize)
            {
                shards.Add([]);
                size = 0;
            }

            shards[^1].Add(entry);
            size += entry.ByteLength;
        }

        return shards;
    }

    // Within a file the writer checks; a name that falls into two shards only shows here.
    private static void CheckNames(IReadOnlyList<SafetensorsEntry> entries)
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (SafetensorsEntry entry in entries)
        {
            if (!names.Add(entry.Name))
            {
                throw new ArgumentException($"two tensors are called {entry.Name}", nameof(entries));
            }
        }
    }

    private static void StageAndPlace(string directory, string[] names, List<List<SafetensorsEntry>> shards)
    {
        string[] staged = [.. names.Select(name => Path.Combine(directory, $".{name}.{Environment.ProcessId:x}.staged"))];
        try
        {
            for (int i = 0; i < names.Length; i++)
            {
                SafetensorsWriter.Write(staged[i], shards[i]);
            }

            for (int i = 0; i < names.Length; i++)
            {
                File.Move(staged[i], Path.Combine(directory, names[i]), overwrite: true);
            }
        }
        catch (Exception error)
        {
            foreach (string path in staged)
            {
                TryDelete(path);
            }

            if (error is IOException or UnauthorizedAccessException)
            {
                throw new EngineDataException($"cannot write the shards of {directory}: {error.Message}", error);
            }

            throw;
        }
    }

    private static void RemoveStale(string directory, string[] keep)
    {
        foreach (string path in Directory.EnumerateFiles(directory, "model*.safetensors*"))
        {
            string name = Path.GetFileName(path);
            bool ours = name is SingleFile or CheckpointIndex.FileName || IsShardName(name);
            if (ours && !keep.Contains(name))
            {
                TryDelete(path);
            }
        }
    }

    // model-00001-of-00002.safetensors
    private static bool IsShardName(string name) =>
        name.Length == "model-00001-of-00002.safetensors".Length
        && name.StartsWith("model-", StringComparison.Ordinal)
        && name.AsSpan(11).StartsWith("-of-", StringComparison.Ordinal)
        && name.EndsWith(".safetensors", StringComparison.Ordinal);

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // A leftover is the lesser harm: it hides no error and the new files are complete.
        }
    }
}

using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// <c>model.safetensors.index.json</c>: which shard holds which tensor. Shard names are checked here to stay inside the
/// directory, before any of them is opened.
/// </summary>
internal static class CheckpointIndex
{
    public const string FileName = "model.safetensors.index.json";

    /// <summary>Tensor name to shard file name, in the index's order.</summary>
    public static Dictionary<string, string> Load(string directory)
    {
        string path = Path.Combine(directory, FileName);
        JsonFields map = JsonFields.Load(path).Object("weight_map")
            ?? throw new EngineDataException($"{path}: weight_map is missing; it maps each tensor to the shard that holds it");
        var result = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string tensor in map.Names)
        {
            string shard = map.String(tensor) ?? throw map.Missing(tensor, "the name of a shard");
            CheckShardName(path, directory, tensor, shard);
            result.Add(tensor, shard);
        }

        return result.Count > 0 ? result : throw new EngineDataException($"{path}: weight_map is empty; it maps each tensor to the shard that holds it");
    }

    /// <summary>Writes the index atomically, tensors sorted by name as the reference library does.</summary>
    public static void Write(string path, IEnumerable<KeyValuePair<string, string>> weightMap, long totalSize) =>
        AtomicFile.Write(path, stream =>
        {
            using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" });
            json.WriteStartObject();
            json.WriteStartObject("metadata"u8);
            json.WriteNumber("total_size"u8, totalSize);
            json.WriteEndObject();
            json.WriteStartObject("weight_map"u8);
            foreach ((string tensor, string shard) in weightMap.OrderBy(pair => pair.Key, StringComparer.Ordinal))
            {
                json.WriteString(tensor, shard);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        });

    // Links inside the directory may lead elsewhere (the Hugging Face cache is made of them); names may not.
    private static void CheckShardName(string index, string directory, string tensor, string shard)
    {
        bool plain = shard.Length > 0 && !shard.Any(c => char.IsControl(c) || c is '\\' or ':') && !Path.IsPathRooted(shard);
        string root = Path.GetFullPath(directory);
        string prefix = Path.EndsInDirectorySeparator(root) ? root : root + Path.DirectorySeparatorChar;
        if (!plain || !Path.GetFullPath(Path.Combine(root, shard)).StartsWith(prefix, StringComparison.Ordinal))
        {
            throw new EngineDataException(
                $"{index}: the shard of tensor {ErrorText.Quote(tensor)} is {ErrorText.Quote(shard)}; a file name inside {directory} is needed");
        }

        if (!File.Exists(Path.Combine(directory, shard)))
        {
            throw new EngineDataException(
                $"{index}: tensor {ErrorText.Quote(tensor)} is in shard {ErrorText.Quote(shard)}, but there is no such file; the download may be incomplete");
        }
    }
}

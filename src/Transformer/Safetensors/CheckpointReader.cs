using System.Diagnostics.CodeAnalysis;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// The weights of a Hugging Face model directory, in one file or in shards, as one dictionary of memory-mapped tensors.
/// </summary>
public sealed class CheckpointReader : IDisposable
{
    private const string SingleFile = "model.safetensors";

    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsTensor> _tensors = new(StringComparer.Ordinal);

    private CheckpointReader(string directory) => Directory = directory;

    /// <summary>The model directory.</summary>
    public string Directory { get; }

    /// <summary>All tensors by name. Valid until the reader is disposed.</summary>
    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors => _tensors;

    /// <summary>The open files.</summary>
    public IReadOnlyList<SafetensorsFile> Files => _files;

    /// <summary>Sum of the tensors' sizes in bytes.</summary>
    public long TotalBytes => _tensors.Values.Sum(tensor => tensor.ByteLength);

    /// <summary>The tensor called <paramref name="name"/>.</summary>
    /// <exception cref="EngineDataException">The checkpoint has no such tensor.</exception>
    public SafetensorsTensor this[string name] => _tensors.TryGetValue(name, out SafetensorsTensor? tensor)
        ? tensor
        : throw new EngineDataException($"{Directory}: the weights have no tensor {ErrorText.Quote(name)}");

    /// <summary>
    /// Opens <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> names, next to a
    /// <c>config.json</c>.
    /// </summary>
    /// <exception cref="EngineDataException">
    /// The directory, the configuration or the weights are missing, the weights are pickle files, the index is wrong,
    /// or a file is not valid.
    /// </exception>
    public static CheckpointReader Open(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ModelDirectory.RequireConfig(directory);
        var reader = new CheckpointReader(directory);
        try
        {
            if (File.Exists(Path.Combine(directory, SingleFile)))
            {
                reader.AddFile(SingleFile);
            }
            else if (File.Exists(Path.Combine(directory, CheckpointIndex.FileName)))
            {
                reader.AddShards();
            }
            else
            {
                throw new EngineDataException(ExplainMissing(directory));
            }

            return reader;
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>Looks for a tensor.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out SafetensorsTensor? tensor) => _tensors.TryGetValue(name, out tensor);

    /// <inheritdoc/>
    public void Dispose() => _files.ForEach(file => file.Dispose());

    private static string ExplainMissing(string directory)
    {
        string? pickle = System.IO.Directory.EnumerateFiles(directory)
            .Select(Path.GetFileName)
            .Where(name => Path.GetExtension(name) is ".bin" or ".pt" or ".pth" or ".ckpt" or ".pkl")
            .Order(StringComparer.Ordinal)
            .FirstOrDefault();
        return pickle is null
            ? $"{directory}: there are no weights; {SingleFile} or {CheckpointIndex.FileName} with its shards is needed"
            : $"{directory}: the weights are in {pickle}, a PyTorch pickle file; {SafetensorsPreamble.ConvertRemedy}";
    }

    private SafetensorsFile OpenShard(string name)
    {
        SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Directory, name));
        _files.Add(file);
        return file;
    }

    private void AddFile(string name)
    {
        foreach ((string tensorName, SafetensorsTensor tensor) in OpenShard(name).Tensors)
        {
            _tensors.Add(tensorName, tensor);
        }
    }

    private void AddShards()
    {
        var shards = new Dictionary<string, SafetensorsFile>(StringComparer.Ordinal);
        foreach ((string tensorName, string shardName) in CheckpointIndex.Load(Directory))
        {
            if (!shards.TryGetValue(shardName, out SafetensorsFile? shard))
            {
                shard = OpenShard(shardName);
                shards.Add(shardName, shard);
            }

            if (!shard.TryGet(tensorName, out SafetensorsTensor? tensor))
            {
                throw new EngineDataException(
                    $"{Path.Combine(Directory, CheckpointIndex.FileName)}: tensor {ErrorText.Quote(tensorName)} should be in {ErrorText.Quote(shardName)}, but that shard does not hold it");
            }

            _tensors.Add(tensorName, tensor);
        }
    }
}

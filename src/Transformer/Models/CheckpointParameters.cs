using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer;

/// <summary>Parameters read from a checkpoint, each checked against the shape the configuration asks for.</summary>
internal sealed class CheckpointParameters : IParameterSource
{
    private const string Gpt2Prefix = "transformer.";

    private readonly CheckpointReader _checkpoint;
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);
    private readonly bool _stripPrefix;

    public CheckpointParameters(CheckpointReader checkpoint, ModelConfig config)
    {
        _checkpoint = checkpoint;

        // The original GPT-2 checkpoints hold the bare decoder: their names lack the prefix of the model with a head.
        _stripPrefix = config.Family == ModelFamily.Gpt2 &&
            !checkpoint.Tensors.Keys.Any(name => name.StartsWith(Gpt2Prefix, StringComparison.Ordinal));
        SafetensorsTensor? largest = checkpoint.Tensors.Values.Where(t => t.IsSupported && t.DType.IsFloat()).MaxBy(t => t.ByteLength);
        StorageDType = largest?.DType ?? DType.F32;
    }

    /// <summary>The dtype most of the checkpoint is stored in.</summary>
    public DType StorageDType { get; }

    public Tensor Get(string name, Shape shape, DType dtype, Device device)
    {
        SafetensorsTensor stored = Find(name);
        if (!stored.DType.IsFloat())
        {
            throw new EngineDataException(
                $"{stored.FilePath}: tensor \"{stored.Name}\" has dtype {stored.DTypeName}; a parameter is F32, F64, BF16 or F16");
        }

        if (!SameShape(stored.Shape, shape))
        {
            throw new EngineDataException(
                $"{stored.FilePath}: tensor \"{stored.Name}\" has shape {ErrorText.Shape(stored.Shape)}; config.json asks for {shape}");
        }

        return SafetensorsBridge.Read(stored, dtype, device);
    }

    /// <summary>Refuses a checkpoint with parameters that the configuration has no place for.</summary>
    public void CheckNothingLeft(DecoderModel model)
    {
        foreach (string name in _checkpoint.Tensors.Keys)
        {
            if (!_used.Contains(name) && !IsIgnorable(name, model.Config))
            {
                throw new EngineDataException(
                    $"{_checkpoint[name].FilePath}: tensor \"{name}\" has no place in the model that config.json describes; check num_hidden_layers, the biases and model_type");
            }
        }
    }

    private static bool SameShape(ReadOnlySpan<long> stored, Shape shape)
    {
        if (stored.Length != shape.Rank)
        {
            return false;
        }

        for (int i = 0; i < stored.Length; i++)
        {
            if (stored[i] != shape[i])
            {
                return false;
            }
        }

        return true;
    }

    // Buffers that older versions of the reference library saved, and a head that is the embedding anyway.
    private static bool IsIgnorable(string name, ModelConfig config) =>
        name.EndsWith(".attn.bias", StringComparison.Ordinal) ||
        name.EndsWith(".attn.masked_bias", StringComparison.Ordinal) ||
        name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal) ||
        (config.TieWordEmbeddings && name == "lm_head.weight");

    private SafetensorsTensor Find(string name)
    {
        string stored = _stripPrefix && name.StartsWith(Gpt2Prefix, StringComparison.Ordinal) ? name[Gpt2Prefix.Length..] : name;
        SafetensorsTensor tensor = _checkpoint[stored];
        _used.Add(stored);
        return tensor;
    }
}

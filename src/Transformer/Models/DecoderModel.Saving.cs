using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer;

public sealed partial class DecoderModel
{
    // What makes a model directory complete beside its weights and config.json.
    private static readonly string[] s_companions =
    [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "tokenizer.model",
        "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja",
    ];

    /// <summary>
    /// Saves the model as a Hugging Face directory: weights, <c>config.json</c>, and the tokenizer's files of the directory
    /// it came from. Each file appears whole or not at all; <c>config.json</c> comes last, and one there before is deleted first,
    /// so that a directory left in between is no model, rather than one whose parts do not belong together.
    /// </summary>
    /// <param name="directory">Where to write.</param>
    /// <param name="source">The directory whose tokenizer and generation files go along, or null.</param>
    /// <param name="dtype">Dtype to store, or null for the one held.</param>
    /// <param name="replaced">Tensors to write in place of parameters of the same name, or beside them (an untied head).</param>
    /// <exception cref="EngineDataException">The directory cannot be written.</exception>
    public void Save(
        string directory, string? source = null, DType? dtype = null, IReadOnlyDictionary<string, Tensor>? replaced = null)
    {
        DType storage = dtype ?? DType;
        Dictionary<string, Tensor> tensors = Parameters.ToDictionary(p => p.Key, p => p.Value.Value, StringComparer.Ordinal);
        foreach ((string name, Tensor tensor) in replaced ?? new Dictionary<string, Tensor>())
        {
            tensors[name] = tensor;
        }

        string config = Path.Combine(directory, "config.json");
        AtomicFile.Delete(config);
        CheckpointWriter.Write(
            directory, [.. tensors.OrderBy(t => t.Key, StringComparer.Ordinal).Select(t => Entry(t.Key, t.Value, storage))]);
        foreach (string companion in s_companions.Where(c => source is not null && File.Exists(Path.Combine(source, c))))
        {
            byte[] bytes = File.ReadAllBytes(Path.Combine(source!, companion));
            AtomicFile.Write(Path.Combine(directory, companion), stream => stream.Write(bytes));
        }

        if (Config.OriginalJson.IsEmpty)
        {
            (Config with { StorageDType = storage }).WriteJson(config);
        }
        else
        {
            Config.CopyJson(config, storage);
        }
    }

    private static SafetensorsEntry Entry(string name, Tensor tensor, DType storage)
    {
        if (tensor.DType == storage)
        {
            return SafetensorsBridge.Entry(name, tensor);
        }

        Span<long> shape = stackalloc long[tensor.Shape.Rank];
        for (int i = 0; i < shape.Length; i++)
        {
            shape[i] = tensor.Shape[i];
        }

        return new SafetensorsEntry(name, storage, shape, tensor.Elements * storage.Size(), stream =>
        {
            using Tensor dense = Copy.Dense(tensor);
            using Tensor converted = dense.EmptyLike(storage);
            Cast.Run(dense, converted);
            SafetensorsBridge.Entry(name, converted).Write(stream);
        });
    }
}

using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Lora;

/// <summary>
/// Imports the state dictionary that loralib (microsoft/LoRA) saves, as safetensors: <c>lora_A</c>, <c>lora_B</c> and
/// trained biases under the model's own paths. A merged layer (GPT-2's <c>c_attn</c>) becomes the equal dense pair, see
/// <see cref="LoralibMergedLinear"/>.
/// </summary>
public static class LoralibImport
{
    /// <summary>Loads a file onto a model as an adapter; it is not yet active.</summary>
    /// <param name="model">The base.</param>
    /// <param name="name">The adapter's name on the model.</param>
    /// <param name="path">The safetensors file.</param>
    /// <param name="alpha">loralib's <c>lora_alpha</c>, which the file does not hold.</param>
    /// <param name="enableLora">
    /// Which groups of merged layers are adapted, which the file does not hold; null when there are no merged layers.
    /// </param>
    /// <exception cref="EngineDataException">The file is damaged, belongs to another base, or has merged layers and no groups were given.</exception>
    public static LoraAdapter Load(AdaptedModel model, string name, string path, double alpha, IReadOnlyList<bool>? enableLora = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Dictionary<AdapterKey, SafetensorsTensor> stored = file.Tensors.ToDictionary(
            t => LoralibKeys.Parse(t.Key, path), t => t.Value);
        Dictionary<string, Pair> pairs = Pairs(model, stored, path, enableLora);
        LoraAdapter adapter = model.Add(name, ConfigOf(pairs, stored, alpha), path, (_, linear) =>
        {
            Pair pair = pairs[linear.Path];
            return (
                Tensor.From(pair.A, [pair.Rank, linear.InFeatures], model.Base.Device),
                Tensor.From(pair.B, [linear.OutFeatures, pair.Rank], model.Base.Device),
                null);
        });
        try
        {
            ReadBiases(adapter, model, stored, path);
            return adapter;
        }
        catch
        {
            model.Remove(name);
            throw;
        }
    }

    private static Dictionary<string, Pair> Pairs(
        AdaptedModel model, Dictionary<AdapterKey, SafetensorsTensor> stored, string path, IReadOnlyList<bool>? enableLora)
    {
        var modules = model.Modules.ToDictionary(m => m.Path, StringComparer.Ordinal);
        var pairs = new Dictionary<string, Pair>(StringComparer.Ordinal);
        foreach ((AdapterKey key, SafetensorsTensor a) in stored.Where(s => s.Key.Part == AdapterPart.LoraA))
        {
            if (!modules.TryGetValue(key.Path, out ModuleDescription? module) || module.Kind is ModuleKind.Embedding or ModuleKind.Norm)
            {
                throw new EngineDataException($"{path}: tensor \"{a.Name}\": the base has no linear layer {key.Path}; the file was made for another model");
            }

            if (!stored.TryGetValue(new AdapterKey(key.Path, AdapterPart.LoraB), out SafetensorsTensor? b))
            {
                throw new EngineDataException($"{path}: {key.Path} has lora_A and no lora_B");
            }

            pairs.Add(key.Path, PairOf(module, a, b, path, enableLora));
        }

        AdapterKey alone = stored.Keys.FirstOrDefault(k => k.Part == AdapterPart.LoraB && !pairs.ContainsKey(k.Path));
        if (alone != default)
        {
            throw new EngineDataException($"{path}: {alone.Path} has lora_B and no lora_A");
        }

        return pairs.Count > 0 ? pairs : throw new EngineDataException($"{path}: there is no lora_A in the file");
    }

    private static Pair PairOf(
        ModuleDescription module, SafetensorsTensor a, SafetensorsTensor b, string path, IReadOnlyList<bool>? enableLora)
    {
        int[] shapeA = ShapeOf(a);
        int[] shapeB = ShapeOf(b);
        if (LoralibMergedLinear.IsPlain(module, shapeA, shapeB))
        {
            return new Pair(shapeA[0], 1, Floats(a), Floats(b));
        }

        if (enableLora is null)
        {
            throw new EngineDataException(
                $"{path}: {module.Path}: lora_A is {ErrorText.Shape(a.Shape)} and lora_B {ErrorText.Shape(b.Shape)}; the layer is {module.OutFeatures}×{module.InFeatures}: " +
                "if it is a merged layer, say which groups are adapted (enable_lora)");
        }

        LoralibMergedLinear merged = LoralibMergedLinear.Describe(module, shapeA, shapeB, enableLora, path);
        return new Pair(merged.DenseRank, merged.EnabledCount, Floats(a), merged.ExpandB(Floats(b)));
    }

    private static LoraConfig ConfigOf(Dictionary<string, Pair> pairs, Dictionary<AdapterKey, SafetensorsTensor> stored, double alpha)
    {
        // loralib's scale is α/r with the rank r of one group; n groups side by side have rank n·r and need n·α.
        Pair first = pairs.Values.First();
        double firstAlpha = alpha * first.Groups;
        bool biases = stored.Keys.Any(k => k.Part == AdapterPart.Bias);
        bool everywhere = stored.Keys.Any(k => k.Part == AdapterPart.Bias && !pairs.ContainsKey(k.Path));
        return new LoraConfig
        {
            TaskType = "CAUSAL_LM",
            Rank = first.Rank,
            Alpha = firstAlpha,
            TargetModules = NamesOrPattern.FromNames(pairs.Keys.Order(StringComparer.Ordinal)),
            Bias = everywhere ? LoraBias.All : biases ? LoraBias.LoraOnly : LoraBias.None,
            RankPattern = [.. pairs.Where(p => p.Value.Rank != first.Rank).Select(p => KeyValuePair.Create(Exactly(p.Key), p.Value.Rank))],
            AlphaPattern = [.. pairs.Where(p => alpha * p.Value.Groups != firstAlpha)
                .Select(p => KeyValuePair.Create(Exactly(p.Key), alpha * p.Value.Groups))],
        };
    }

    // The keys of rank_pattern are regular expressions.
    private static string Exactly(string path) => path.Replace(".", "\\.", StringComparison.Ordinal);

    private static void ReadBiases(
        LoraAdapter adapter, AdaptedModel model, Dictionary<AdapterKey, SafetensorsTensor> stored, string path)
    {
        foreach ((AdapterKey key, SafetensorsTensor bias) in stored.Where(s => s.Key.Part == AdapterPart.Bias))
        {
            if (!adapter.Copies.TryGetValue($"{key.Path}.bias", out Variable? copy) ||
                bias.Rank != 1 || bias.Shape[0] != copy.Value.Shape[0])
            {
                throw new EngineDataException(
                    $"{path}: tensor \"{bias.Name}\" {ErrorText.Shape(bias.Shape)} has no place: the base has no such bias, or of another length");
            }

            copy.Replace(SafetensorsBridge.Read(bias, copy.Value.DType, model.Base.Device));
        }
    }

    private static int[] ShapeOf(SafetensorsTensor tensor)
    {
        var shape = new int[tensor.Rank];
        for (int i = 0; i < shape.Length; i++)
        {
            shape[i] = checked((int)tensor.Shape[i]);
        }

        return shape;
    }

    private static float[] Floats(SafetensorsTensor tensor)
    {
        using Tensor f32 = SafetensorsBridge.Read(tensor, DType.F32, Device.Cpu);
        return f32.ToArray<float>();
    }

    // A [Rank, in] and B [out, Rank]; Groups is how many groups of a merged layer it stands for.
    private sealed record Pair(int Rank, int Groups, float[] A, float[] B);
}

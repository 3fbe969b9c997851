using System.Globalization;
using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Lora;

/// <summary>Trained parameters with their optimizer's state in one safetensors file.</summary>
public static class OptimizerState
{
    private const string StepsKey = "optimizer_steps";

    /// <summary>Writes parameters, moments, masters and the number of updates.</summary>
    /// <exception cref="EngineDataException">The file cannot be written.</exception>
    public static void Save(string path, IReadOnlyList<Variable> trained, AdamWOptimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(optimizer);
        IEnumerable<SafetensorsEntry> entries = trained.Select(p => SafetensorsBridge.Entry(p.Name!, p.Value))
            .Concat(optimizer.State().Select(s => SafetensorsBridge.Entry(s.Name, s.Tensor)));
        SafetensorsWriter.Write(path, entries, new Dictionary<string, string>
        {
            [StepsKey] = optimizer.Steps.ToString(CultureInfo.InvariantCulture),
        });
    }

    /// <summary>Reads them back, bit for bit.</summary>
    /// <exception cref="EngineDataException">The file is damaged or belongs to other parameters.</exception>
    public static void Load(string path, IReadOnlyList<Variable> trained, AdamWOptimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(trained);
        ArgumentNullException.ThrowIfNull(optimizer);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        if (!file.Metadata.TryGetValue(StepsKey, out string? text) ||
            !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int steps))
        {
            throw new EngineDataException($"{path}: metadata \"{StepsKey}\" is missing: not a training state that this program wrote");
        }

        // Everything is checked before anything is changed.
        (string Name, Tensor Target)[] places =
            [.. trained.Select(p => (p.Name!, p.Value)), .. optimizer.State().Select(s => (s.Name, s.Tensor))];
        foreach ((string name, Tensor target) in places)
        {
            RequireSame(file, name, target);
        }

        if (file.Tensors.Count > places.Length)
        {
            var names = places.Select(p => p.Name).ToHashSet(StringComparer.Ordinal);
            throw new EngineDataException(
                $"{path}: tensor \"{file.Tensors.Keys.First(k => !names.Contains(k))}\" is not trained by this run: the state belongs to another run");
        }

        foreach ((string name, Tensor target) in places)
        {
            using Tensor loaded = SafetensorsBridge.Read(file[name], target.DType, target.Device);
            target.Device.Copy(loaded.Pointer, target.Pointer, target.ByteLength);
        }

        optimizer.Restore(steps);
    }

    private static void RequireSame(SafetensorsFile file, string name, Tensor target)
    {
        if (!file.TryGet(name, out SafetensorsTensor? stored))
        {
            throw new EngineDataException($"{file.Path}: tensor \"{name}\" is missing: the state belongs to another run");
        }

        bool same = stored.DType == target.DType && stored.Rank == target.Shape.Rank;
        for (int i = 0; same && i < stored.Rank; i++)
        {
            same = stored.Shape[i] == target.Shape[i];
        }

        if (!same)
        {
            throw new EngineDataException(
                $"{file.Path}: tensor \"{name}\" is {stored.DTypeName}{Transformer.ErrorText.Shape(stored.Shape)}; this run needs {target.DType.Name()}{target.Shape}: the state belongs to another run");
        }
    }
}

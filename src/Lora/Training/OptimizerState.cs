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

        foreach (Variable parameter in trained)
        {
            CopyInto(file, parameter.Name!, parameter.Value);
        }

        foreach ((string name, Tensor tensor) in optimizer.State())
        {
            CopyInto(file, name, tensor);
        }

        optimizer.Restore(steps);
    }

    private static void CopyInto(SafetensorsFile file, string name, Tensor target)
    {
        SafetensorsTensor stored = file[name];
        if (stored.DType != target.DType || stored.ByteLength != target.ByteLength)
        {
            throw new EngineDataException(
                $"{file.Path}: tensor \"{name}\" is {stored.DTypeName}{Transformer.ErrorText.Shape(stored.Shape)}; this run needs {target.DType.Name()}{target.Shape}: the state belongs to another run");
        }

        using Tensor loaded = SafetensorsBridge.Read(stored, target.DType, target.Device);
        target.Device.Copy(loaded.Pointer, target.Pointer, target.ByteLength);
    }
}

using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Lora;

/// <summary>One adapted module of an adapter directory, seen without its base.</summary>
/// <param name="Path">The module's path.</param>
/// <param name="Rank">Rank of the update.</param>
/// <param name="Inputs">Columns of A.</param>
/// <param name="Outputs">Rows of B.</param>
/// <param name="Scale">α/r or α/√r.</param>
/// <param name="SingularValues">Those of ΔW = Scale·B·A, the largest first; at most <paramref name="Rank"/> of them are not zero.</param>
/// <param name="HasMagnitude">Whether DoRA's magnitude belongs to it; ΔW is then the direction's change only.</param>
public sealed record AdaptedModuleSummary(
    string Path, int Rank, int Inputs, int Outputs, double Scale, IReadOnlyList<double> SingularValues, bool HasMagnitude)
{
    /// <summary>‖ΔW‖_F: the root of the sum of the squared singular values.</summary>
    public double Norm => Math.Sqrt(SingularValues.Sum(s => s * s));
}

/// <summary>What an adapter directory holds, read without its base model.</summary>
/// <param name="Config">The configuration.</param>
/// <param name="Modules">The adapted modules, in the file's order.</param>
/// <param name="Copies">Keys of parameters that are trained and saved as a whole.</param>
/// <param name="Parameters">Values stored.</param>
/// <param name="Bytes">Their size.</param>
public sealed record AdapterInspection(
    LoraConfig Config, IReadOnlyList<AdaptedModuleSummary> Modules, IReadOnlyList<string> Copies, long Parameters, long Bytes)
{
    /// <summary>Reads an adapter directory.</summary>
    /// <exception cref="EngineDataException">A file is missing or wrong.</exception>
    public static AdapterInspection Read(string directory)
    {
        string configPath = Path.Combine(directory, LoraConfig.FileName);
        LoraConfig config = LoraConfig.Load(configPath);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(directory, AdapterKeys.FileName));
        var ranks = config.AlphaPattern.Select(p => (Regex: TargetMatcher.KeyPattern(p.Key, configPath, "alpha_pattern"), Alpha: p.Value)).ToList();
        var stored = new Dictionary<AdapterKey, SafetensorsTensor>();
        foreach ((string key, SafetensorsTensor tensor) in file.Tensors)
        {
            stored[AdapterKeys.Parse(key, file.Path)] = tensor;
        }

        var modules = new List<AdaptedModuleSummary>();
        foreach ((AdapterKey key, SafetensorsTensor a) in stored.Where(s => s.Key.Part == AdapterPart.LoraA))
        {
            double alpha = ranks.Where(p => p.Regex.Match(key.Path).Success).Select(p => (double?)p.Alpha).FirstOrDefault() ?? config.Alpha;
            modules.Add(Summarise(config, key.Path, a, stored, alpha, file.Path));
        }

        string[] copies = [.. stored.Where(s => s.Key.Part is AdapterPart.Bias or AdapterPart.Weight).Select(s => s.Value.Name)];
        return new AdapterInspection(config, modules, copies, file.Tensors.Values.Sum(t => t.ElementCount), file.Tensors.Values.Sum(t => t.ByteLength));
    }

    private static AdaptedModuleSummary Summarise(
        LoraConfig config, string path, SafetensorsTensor a, Dictionary<AdapterKey, SafetensorsTensor> stored, double alpha, string file)
    {
        if (!stored.TryGetValue(new AdapterKey(path, AdapterPart.LoraB), out SafetensorsTensor? b) ||
            a.Rank != 2 || b.Rank != 2 || a.Shape[0] != b.Shape[1] || a.Shape[0] < 1)
        {
            throw new EngineDataException(
                $"{file}: {path}: lora_A is {Transformer.ErrorText.Shape(a.Shape)} and lora_B {(b is null ? "missing" : Transformer.ErrorText.Shape(b.Shape))}; expected [r, in] and [out, r]");
        }

        int rank = checked((int)a.Shape[0]);
        int inputs = checked((int)a.Shape[1]);
        int outputs = checked((int)b.Shape[0]);
        double scale = config.Scale(rank, alpha);
        using Tensor down = SafetensorsBridge.Read(a, DType.F32, Device.Cpu);
        using Tensor up = SafetensorsBridge.Read(b, DType.F32, Device.Cpu);
        double[] values = SingularValues.OfProduct(up.ToArray<float>(), down.ToArray<float>(), outputs, inputs, rank, scale);
        bool magnitude = stored.ContainsKey(new AdapterKey(path, AdapterPart.Magnitude));
        return new AdaptedModuleSummary(path, rank, inputs, outputs, scale, values, magnitude);
    }
}

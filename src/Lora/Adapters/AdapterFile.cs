using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Lora;

/// <summary>
/// PEFT's adapter directory: <c>adapter_config.json</c> and <c>adapter_model.safetensors</c>, in both directions.
/// </summary>
public static class AdapterFile
{
    /// <summary>Saves an adapter so that PEFT loads it; each file appears whole or not at all.</summary>
    /// <remarks>
    /// <para>The configuration is written last, and that of an adapter there before is deleted first: a directory left in
    /// between is no adapter, rather than one whose parts do not belong together.</para>
    /// <para>A PiSSA adapter is saved as the plain adapter of the original base that does the same: with W = W_res + s·B₀·A₀,
    /// ΔW = s·(B·A − B₀·A₀) = s·[B, −B₀]·[A; A₀], of rank 2r and twice the α.</para>
    /// </remarks>
    /// <exception cref="EngineDataException">The directory cannot be written.</exception>
    public static void Save(LoraAdapter adapter, string directory)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        var temporaries = new List<Tensor>();
        try
        {
            LoraConfig config = adapter.IsPissa ? WithoutPissa(adapter) : adapter.Config;
            var entries = new List<SafetensorsEntry>();
            foreach ((string key, Tensor tensor) in Tensors(adapter, temporaries))
            {
                entries.Add(SafetensorsBridge.Entry(key, tensor));
            }

            string configPath = Path.Combine(directory, LoraConfig.FileName);
            AtomicFile.Delete(configPath);
            SafetensorsWriter.Write(
                Path.Combine(directory, AdapterKeys.FileName), entries, new Dictionary<string, string> { ["format"] = "pt" });
            config.Save(configPath);
        }
        finally
        {
            temporaries.ForEach(t => t.Dispose());
        }
    }

    /// <summary>Loads an adapter directory onto a model; the adapter is not yet active.</summary>
    /// <exception cref="EngineDataException">A file is missing or wrong, or the adapter belongs to another base.</exception>
    public static LoraAdapter Load(AdaptedModel model, string name, string directory)
    {
        ArgumentNullException.ThrowIfNull(model);
        string configPath = Path.Combine(directory, LoraConfig.FileName);
        RequireFiles(directory, configPath);
        LoraConfig config = LoraConfig.Load(configPath);
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(directory, AdapterKeys.FileName));
        IReadOnlyDictionary<AdapterKey, SafetensorsTensor> stored = Index(file);
        var used = new HashSet<AdapterKey>();
        LoraAdapter adapter = model.Add(name, config, configPath, (target, linear) =>
        {
            Tensor a = Read(model, file, stored, used, new AdapterKey(linear.Path, AdapterPart.LoraA), [target.Rank, linear.InFeatures]);
            Tensor? b = null;
            try
            {
                b = Read(model, file, stored, used, new AdapterKey(linear.Path, AdapterPart.LoraB), [linear.OutFeatures, target.Rank]);

                // PEFT's own rule: a file that says "pissa" goes with the residual, which the base is split into again.
                return (a, b, config.Init.Kind == LoraInitKind.Pissa ? model.SplitForPissa(target, linear) : null);
            }
            catch
            {
                a.Dispose();
                b?.Dispose();
                throw;
            }
        });
        try
        {
            foreach (LoraLayer layer in adapter.Layers.Where(l => l.Magnitude is not null))
            {
                layer.Magnitude!.Replace(Read(
                    model, file, stored, used, new AdapterKey(layer.Path, AdapterPart.Magnitude), layer.Magnitude.Value.Shape));
            }

            foreach ((string parameter, Variable copy) in adapter.Copies)
            {
                copy.Replace(Read(model, file, stored, used, KeyOf(parameter), copy.Value.Shape, copy.Value.DType));
            }

            RequireAllUsed(file, stored, used, config);
        }
        catch
        {
            model.Remove(name);
            throw;
        }

        return adapter;
    }

    /// <summary>The adapter's tensors under PEFT's keys.</summary>
    internal static IEnumerable<(string Key, Tensor Tensor)> Tensors(LoraAdapter adapter, List<Tensor> temporaries)
    {
        var targeted = adapter.Layers.Select(l => l.Path).ToHashSet(StringComparer.Ordinal);
        foreach (LoraLayer layer in adapter.Layers)
        {
            (Tensor a, Tensor b) = layer.Start is null ? (layer.A.Value, layer.B.Value) : Unsplit(layer, temporaries);
            yield return (AdapterKeys.Format(layer.Path, AdapterPart.LoraA), a);
            yield return (AdapterKeys.Format(layer.Path, AdapterPart.LoraB), b);
            if (layer.Magnitude is not null)
            {
                yield return (AdapterKeys.Format(layer.Path, AdapterPart.Magnitude), layer.Magnitude.Value);
            }
        }

        foreach ((string parameter, Variable copy) in adapter.Copies)
        {
            AdapterKey key = KeyOf(parameter);
            yield return (AdapterKeys.Format(key.Path, key.Part, targeted.Contains(key.Path)), copy.Value);
        }
    }

    private static (Tensor A, Tensor B) Unsplit(LoraLayer layer, List<Tensor> temporaries)
    {
        Tensor a0 = layer.Start!.A;
        Tensor b0 = layer.Start.B;
        int rank = a0.Shape[0];
        int outputs = b0.Shape[0];
        Tensor a = Tensor.Empty([2 * rank, a0.Shape[1]], a0.DType, a0.Device);
        Tensor b = Tensor.Empty([outputs, 2 * rank], b0.DType, b0.Device);
        temporaries.Add(a);
        temporaries.Add(b);
        using Tensor negative = b0.EmptyLike();
        Elementwise.Scale(b0, -1, negative);
        Put(layer.A.Value, a, 0, 0);
        Put(a0, a, 0, rank);
        Put(layer.B.Value, b, 1, 0);
        Put(negative, b, 1, rank);
        return (a, b);
    }

    private static void Put(Tensor source, Tensor target, int dimension, int start)
    {
        using Tensor place = target.Slice(dimension, start, source.Shape[dimension]);
        Copy.Run(source, place);
    }

    private static LoraConfig WithoutPissa(LoraAdapter adapter)
    {
        LoraConfig config = adapter.Config;

        // With rank 2r the scale α/r must stay: α doubles; with rsLoRA, α/√r, it grows by √2.
        double alpha = config.UseRslora ? Math.Sqrt(2) : 2;
        return config with
        {
            Init = default,
            Rank = 2 * config.Rank,
            Alpha = alpha * config.Alpha,
            RankPattern = [.. config.RankPattern.Select(p => KeyValuePair.Create(p.Key, 2 * p.Value))],
            AlphaPattern = [.. config.AlphaPattern.Select(p => KeyValuePair.Create(p.Key, alpha * p.Value))],
        };
    }

    private static AdapterKey KeyOf(string parameter)
    {
        int dot = parameter.LastIndexOf('.');
        return new AdapterKey(parameter[..dot], parameter[(dot + 1)..] == "bias" ? AdapterPart.Bias : AdapterPart.Weight);
    }

    private static void RequireFiles(string directory, string configPath)
    {
        if (!Directory.Exists(directory))
        {
            throw new EngineDataException($"{directory}: there is no such directory; an adapter's directory is needed");
        }

        if (!File.Exists(configPath))
        {
            throw new EngineDataException(
                $"{directory}: {LoraConfig.FileName} is missing; an adapter's directory has it and {AdapterKeys.FileName}");
        }

        if (!File.Exists(Path.Combine(directory, AdapterKeys.FileName)))
        {
            throw new EngineDataException(File.Exists(Path.Combine(directory, "adapter_model.bin"))
                ? $"{directory}: the weights are in adapter_model.bin, a pickle, which is never read; save the adapter as safetensors"
                : $"{directory}: {AdapterKeys.FileName} is missing");
        }
    }

    private static Dictionary<AdapterKey, SafetensorsTensor> Index(SafetensorsFile file)
    {
        var index = new Dictionary<AdapterKey, SafetensorsTensor>();
        foreach ((string key, SafetensorsTensor tensor) in file.Tensors)
        {
            AdapterKey parsed = AdapterKeys.Parse(key, file.Path);
            if (parsed.Part != AdapterPart.Duplicate && !index.TryAdd(parsed, tensor))
            {
                throw new EngineDataException($"{file.Path}: tensors \"{index[parsed].Name}\" and \"{key}\" both claim {parsed.Path}");
            }
        }

        return index;
    }

    private static Tensor Read(
        AdaptedModel model,
        SafetensorsFile file,
        IReadOnlyDictionary<AdapterKey, SafetensorsTensor> stored,
        HashSet<AdapterKey> used,
        AdapterKey key,
        Shape shape,
        DType? dtype = null)
    {
        if (!stored.TryGetValue(key, out SafetensorsTensor? tensor))
        {
            throw new EngineDataException(
                $"{file.Path}: no {key.Part} for {key.Path}, which the configuration targets; expected tensor \"{AdapterKeys.Format(key.Path, key.Part)}\"");
        }

        used.Add(key);
        bool same = tensor.Rank == shape.Rank;
        for (int i = 0; same && i < shape.Rank; i++)
        {
            same = tensor.Shape[i] == shape[i];
        }

        if (!same)
        {
            throw new EngineDataException(
                $"{file.Path}: tensor \"{tensor.Name}\" has shape {Transformer.ErrorText.Shape(tensor.Shape)}, this base needs {shape}: the adapter was made for another base, or its r differs from the weights");
        }

        return SafetensorsBridge.Read(tensor, dtype ?? model.AdapterDType, model.Base.Device);
    }

    private static void RequireAllUsed(
        SafetensorsFile file, IReadOnlyDictionary<AdapterKey, SafetensorsTensor> stored, HashSet<AdapterKey> used, LoraConfig config)
    {
        foreach ((AdapterKey key, SafetensorsTensor tensor) in stored)
        {
            if (!used.Contains(key))
            {
                throw new EngineDataException(
                    $"{file.Path}: tensor \"{tensor.Name}\" has no place: the base has no such module, or adapter_config.json does not target it (target_modules: {config.TargetModules})");
            }
        }
    }
}

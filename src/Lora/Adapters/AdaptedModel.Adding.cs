using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

public sealed partial class AdaptedModel
{
    /// <summary>Adds an adapter with freshly initialised weights; it is not yet active.</summary>
    /// <param name="name">The name it will go by.</param>
    /// <param name="config">PEFT's configuration.</param>
    /// <param name="seed">Decides the first values, together with each linear's path.</param>
    /// <param name="source">What messages call the configuration.</param>
    /// <exception cref="EngineDataException">The name is taken, or the configuration does not fit the model.</exception>
    public LoraAdapter Add(string name, LoraConfig config, ulong seed, string source = LoraConfig.FileName)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Add(name, config, source, (target, linear) => Initialise(target, linear, config, seed));
    }

    /// <summary>
    /// Adds an adapter whose A and B a delegate supplies as tensors [rank, in] and [out, rank] (taken over) and whose
    /// magnitudes and copies start from the base; a file's loader then overwrites those too.
    /// </summary>
    internal LoraAdapter Add(
        string name, LoraConfig config, string source, Func<TargetedModule, LinearModule, (Tensor A, Tensor B, PissaStart? Start)> create)
    {
        if (_adapters.ContainsKey(name))
        {
            throw new EngineDataException($"an adapter called \"{name}\" is on the model already");
        }

        RequireUnmerged("add an adapter");
        TargetMatch match = TargetMatcher.Match(config, Modules, ModelType(Base.Config.Family), source);
        var layers = new List<LoraLayer>();
        var copies = new SortedDictionary<string, Variable>(StringComparer.Ordinal);
        try
        {
            foreach (TargetedModule target in match.Targets)
            {
                layers.Add(NewLayer(target, _modules[target.Module.Path], config, create));
            }

            foreach (string parameter in CopiedParameters(config, match))
            {
                copies.Add(parameter, new Variable(Copy.Clone(Original(parameter).Value), name: parameter));
            }
        }
        catch
        {
            layers.ForEach(l => l.Dispose());
            foreach (Variable copy in copies.Values)
            {
                copy.Dispose();
            }

            throw;
        }

        var adapter = new LoraAdapter(name, config with { FanInFanOut = match.FanInFanOut }, layers, copies, _nextIndex++);
        foreach (LoraLayer layer in layers)
        {
            LinearOf(layer.Path).Set(adapter.Index, layer);
        }

        _adapters.Add(name, adapter);
        return adapter;
    }

    private LoraLayer NewLayer(
        TargetedModule target,
        LinearModule linear,
        LoraConfig config,
        Func<TargetedModule, LinearModule, (Tensor A, Tensor B, PissaStart? Start)> create)
    {
        (Tensor a, Tensor b, PissaStart? start) = create(target, linear);
        try
        {
            Tensor weight = (start?.Residual ?? Original($"{linear.Path}.weight")).Value;
            return new LoraLayer(
                target,
                SiteOf(linear),
                new Variable(a, name: $"{target.Module.Path}.lora_A.weight"),
                new Variable(b, name: $"{target.Module.Path}.lora_B.weight"),
                config.UseDora ? NewMagnitude(weight, linear.IsTransposed, a, b, target) : null,
                (float)config.Dropout)
            { Start = start };
        }
        catch
        {
            a.Dispose();
            b.Dispose();
            start?.Dispose();
            throw;
        }
    }

    // The base's own parameter, also while an adapter's stand-in is in its place.
    private Variable Original(string parameter) =>
        _displaced.TryGetValue(parameter, out Variable? original) ? original : _slots[parameter];

    internal static string ModelType(ModelFamily family) => family switch
    {
        ModelFamily.Gpt2 => "gpt2",
        ModelFamily.Mistral => "mistral",
        ModelFamily.Qwen2 => "qwen2",
        ModelFamily.Qwen3 => "qwen3",
        _ => "llama",
    };

    // PEFT: bias "all" trains every bias of the model, "lora_only" those of the adapted linears, and modules_to_save whole modules.
    private IEnumerable<string> CopiedParameters(LoraConfig config, TargetMatch match)
    {
        IEnumerable<string> biases = config.Bias switch
        {
            LoraBias.All => _slots.Names.Where(n => n.EndsWith(".bias", StringComparison.Ordinal)),
            LoraBias.LoraOnly => match.Targets.Where(t => t.Module.HasBias).Select(t => $"{t.Module.Path}.bias"),
            _ => [],
        };
        IEnumerable<string> saved = match.Saved.SelectMany(m => new[] { $"{m.Path}.weight", $"{m.Path}.bias" }).Where(_slots.Contains);
        return biases.Concat(saved).Distinct(StringComparer.Ordinal);
    }

    private LoraLinear LinearOf(string path)
    {
        if (!_linears.TryGetValue(path, out LoraLinear? linear))
        {
            linear = new LoraLinear(_selection);
            _linears.Add(path, linear);
            _modules[path].Adapter = linear;
        }

        return linear;
    }

    private int SiteOf(LinearModule linear)
    {
        for (int i = 0; i < Base.Linears.Count; i++)
        {
            if (ReferenceEquals(Base.Linears[i], linear))
            {
                return i;
            }
        }

        throw new InvalidOperationException($"{linear.Path} is not a linear of this model");
    }

    private Variable NewMagnitude(Tensor weight, bool isTransposed, Tensor a, Tensor b, TargetedModule target)
    {
        // PEFT starts the magnitude at the norm of the adapted weight; with B = 0 that is the base weight's.
        Tensor norm = Tensor.Empty([target.Module.OutFeatures], AdapterDType, Base.Device);
        Dora.WeightNorm(weight, a, b, (float)target.Scale, isTransposed, norm);
        return new Variable(norm, name: $"{target.Module.Path}.lora_magnitude_vector");
    }

    private (Tensor A, Tensor B, PissaStart? Start) Initialise(TargetedModule target, LinearModule linear, LoraConfig config, ulong seed)
    {
        int rank = target.Rank;
        if (config.Init.Kind == LoraInitKind.Pissa)
        {
            return InitialisePissa(target, linear);
        }

        (float[] a, float[] b) = LoraInitializer.Create(
            config.Init.Kind, seed, linear.Path, rank, linear.InFeatures, linear.OutFeatures);
        return (
            LoraInitializer.ToTensor(a, [rank, linear.InFeatures], AdapterDType, Base.Device),
            LoraInitializer.ToTensor(b, [linear.OutFeatures, rank], AdapterDType, Base.Device),
            null);
    }

    private (Tensor A, Tensor B, PissaStart? Start) InitialisePissa(TargetedModule target, LinearModule linear)
    {
        PissaStart start = SplitForPissa(target, linear);
        return (start.A.Clone(), start.B.Clone(), start);
    }

    /// <summary>Splits a linear's weight into its leading singular directions and the residual.</summary>
    internal PissaStart SplitForPissa(TargetedModule target, LinearModule linear)
    {
        int rank = target.Rank;
        if (rank > Math.Min(linear.InFeatures, linear.OutFeatures))
        {
            throw new EngineDataException(
                $"init_lora_weights \"pissa\": r is {rank} but {linear.Path} is {linear.OutFeatures}×{linear.InFeatures}; the rank can be at most {Math.Min(linear.InFeatures, linear.OutFeatures)}");
        }

        Tensor weight = Original($"{linear.Path}.weight").Value;
        (float[] a, float[] b) = LoraInitializer.Pissa(
            OutputMajor(weight, linear.IsTransposed), linear.OutFeatures, linear.InFeatures, rank, target.Scale);
        Tensor ta = LoraInitializer.ToTensor(a, [rank, linear.InFeatures], AdapterDType, Base.Device);
        Tensor tb = LoraInitializer.ToTensor(b, [linear.OutFeatures, rank], AdapterDType, Base.Device);
        var start = new PissaStart(new Variable(Copy.Clone(weight), name: $"{linear.Path}.weight"), ta, tb);
        Kernels.Merge.Apply([new MergeTarget(start.Residual.Value, [new MergeTerm(ta, tb, -(float)target.Scale)], linear.IsTransposed)]);
        return start;
    }

    // A weight as [out, in] floats on the host.
    private static float[] OutputMajor(Tensor weight, bool isTransposed)
    {
        using Tensor dense = Copy.Dense(weight);
        using Tensor f32 = dense.EmptyLike(DType.F32);
        Cast.Run(dense, f32);
        float[] values = f32.ToArray<float>();
        if (!isTransposed)
        {
            return values;
        }

        int inputs = weight.Shape[0];
        int outputs = weight.Shape[1];
        var result = new float[values.Length];
        for (int i = 0; i < inputs; i++)
        {
            for (int o = 0; o < outputs; o++)
            {
                result[(o * inputs) + i] = values[(i * outputs) + o];
            }
        }

        return result;
    }
}

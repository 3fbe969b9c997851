using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// A base model with any number of adapters. One adapter is active at a time (or none), or several serve the rows of a
/// mixed batch; switching assigns a reference. The base stays frozen; merging writes into it and can be undone to the bit.
/// </summary>
public sealed partial class AdaptedModel : IDisposable
{
    private static readonly (string Parameter, Variable Value)[] s_none = [];

    private readonly AdapterSelection _selection = new();
    private readonly Dictionary<string, LoraLinear> _linears = new(StringComparer.Ordinal);
    private readonly Dictionary<string, LinearModule> _modules;
    private readonly Dictionary<string, LoraAdapter> _adapters = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Variable> _displaced = new(StringComparer.Ordinal);
    private readonly ParameterSlots _slots;
    private int _nextIndex;

    /// <summary>Makes the base adaptable and takes it over.</summary>
    public AdaptedModel(DecoderModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        Base = model;
        _modules = model.Linears.ToDictionary(l => l.Path, StringComparer.Ordinal);
        _slots = new ParameterSlots(model);
        model.Prepare = PutAdaptersBesideWeights;
        Modules = Describe(model);
    }

    /// <summary>The model below.</summary>
    public DecoderModel Base { get; }

    /// <summary>The model's layers as configurations select them.</summary>
    public IReadOnlyList<ModuleDescription> Modules { get; }

    /// <summary>The adapters by name.</summary>
    public IReadOnlyDictionary<string, LoraAdapter> Adapters => _adapters;

    /// <summary>The active adapter, or null when the base answers alone.</summary>
    public LoraAdapter? Active => _selection.Active;

    /// <summary>Dtype of A, B and magnitudes: f32 whatever the base's dtype (f64 over an f64 base), as PEFT keeps them.</summary>
    public DType AdapterDType => Base.DType == DType.F64 ? DType.F64 : DType.F32;

    /// <summary>Puts an adapter in charge; null for the base alone.</summary>
    /// <exception cref="EngineDataException">No adapter has this name.</exception>
    public void Activate(string? name)
    {
        LoraAdapter? adapter = name is null ? null : Get(name);
        RequireUnmerged("activate an adapter");
        if (!ReferenceEquals(adapter, Active) || _selection.Mixed is not null)
        {
            // Recorded steps go through the adapter that was active then.
            Base.Device.InvalidateGraphs();
        }

        RestoreDisplaced();
        ReleaseMixed();
        _selection.Active = adapter;
        foreach ((string parameter, Variable value) in adapter is { HasStandIns: true } ? adapter.StandIns : s_none)
        {
            _displaced.Add(parameter, _slots[parameter]);
            _slots[parameter] = value;
        }

        try
        {
            LayOut(adapter);
        }
        catch
        {
            RestoreDisplaced();
            _selection.Active = null;
            throw;
        }
    }

    /// <summary>Takes an adapter off the model and frees it.</summary>
    public void Remove(string name)
    {
        LoraAdapter adapter = Get(name);
        RequireUnmerged("remove an adapter");
        if (ReferenceEquals(Active, adapter) || _selection.Mixed is not null)
        {
            Activate(null);
        }

        Base.Device.InvalidateGraphs();
        foreach (LoraLayer layer in adapter.Layers)
        {
            _linears[layer.Path].Set(adapter.Index, null);
        }

        _adapters.Remove(name);
        Forget(adapter);
        adapter.Dispose();
    }

    /// <summary>
    /// Activates an adapter and lets gradients flow to its parameters only. Returns them in a fixed order.
    /// </summary>
    public IReadOnlyList<Variable> Train(string name)
    {
        Activate(name);
        foreach (Variable parameter in Base.Parameters.Values)
        {
            parameter.RequiresGrad = false;
        }

        Variable[] trained = [.. Active!.Parameters];
        foreach (Variable parameter in trained)
        {
            parameter.RequiresGrad = true;
        }

        return trained;
    }

    /// <summary>Lets gradients flow to every parameter of the base (full fine-tuning). Returns them in checkpoint order.</summary>
    public IReadOnlyList<Variable> TrainBase()
    {
        Activate(null);
        foreach (LinearStack stack in Base.Stacks)
        {
            MakeDense(stack);
        }

        Variable[] trained = [.. Base.Parameters.Values];
        foreach (Variable parameter in trained)
        {
            parameter.RequiresGrad = true;
        }

        return trained;
    }

    /// <summary>The adapter of this name.</summary>
    /// <exception cref="EngineDataException">There is none.</exception>
    public LoraAdapter Get(string name) => _adapters.TryGetValue(name, out LoraAdapter? adapter)
        ? adapter
        : throw new EngineDataException(
            $"no adapter is called \"{name}\"; there {(_adapters.Count == 0 ? "are none" : $"are: {string.Join(", ", _adapters.Keys)}")}");

    /// <inheritdoc/>
    public void Dispose()
    {
        RestoreDisplaced();
        DisposeLayouts();
        ReleaseMixed();
        foreach (LoraAdapter adapter in _adapters.Values)
        {
            adapter.Dispose();
        }

        DisposeMerge();
        Base.Dispose();
    }

    // Why an adapter cannot share the base with another in one pass or one merge.
    private static string Peculiarity(LoraAdapter adapter) =>
        adapter.Config.UseDora ? "uses DoRA"
        : adapter.IsPissa ? "was started with PiSSA, which takes its share out of the base's weights (saved and loaded again, it is a plain adapter)"
        : "brings its own copies of base parameters (bias or modules_to_save)";

    private static List<ModuleDescription> Describe(DecoderModel model)
    {
        var modules = new List<ModuleDescription>();
        modules.AddRange(model.Embeddings.Select(e =>
            new ModuleDescription(e.Path, ModuleKind.Embedding, e.Weight.Value.Shape[0], e.Weight.Value.Shape[1])));
        modules.AddRange(model.Linears.Select(l => new ModuleDescription(
            l.Path,
            ReferenceEquals(l, model.Head) ? ModuleKind.Head : l.IsTransposed ? ModuleKind.Conv1D : ModuleKind.Linear,
            l.InFeatures,
            l.OutFeatures,
            l.Bias is not null)));
        modules.AddRange(model.Norms.Select(n =>
            new ModuleDescription(n.Path, ModuleKind.Norm, n.Weight.Value.Shape[0], n.Weight.Value.Shape[0], n.Bias is not null)));
        return modules;
    }

    private void RestoreDisplaced()
    {
        foreach ((string parameter, Variable original) in _displaced)
        {
            _slots[parameter] = original;
        }

        _displaced.Clear();
    }
}

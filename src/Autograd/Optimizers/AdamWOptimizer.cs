using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>AdamW's hyper-parameters; the defaults are PyTorch's.</summary>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="Epsilon">Added to the root of the second moment.</param>
/// <param name="WeightDecay">Decoupled decay: p ← p·(1 − lr·λ).</param>
public sealed record AdamWOptions(double Beta1 = 0.9, double Beta2 = 0.999, double Epsilon = 1e-8, double WeightDecay = 0.01);

/// <summary>
/// AdamW over a fixed list of parameters, all in one call. Moments are f32 (f64 for f64 parameters); bf16 and f16
/// parameters have an f32 master copy. Source: Loshchilov and Hutter, Decoupled weight decay regularization.
/// </summary>
public sealed class AdamWOptimizer : IDisposable
{
    private readonly IReadOnlyList<Variable> _parameters;
    private readonly Tensor[] _first;
    private readonly Tensor[] _second;
    private readonly Tensor?[] _masters;
    private AdamWPlan? _plan;
    private HostMemory? _norm;

    /// <summary>Makes zero moments for each parameter.</summary>
    public AdamWOptimizer(IReadOnlyList<Variable> parameters, AdamWOptions options)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        _parameters = parameters;
        Options = options;
        _first = new Tensor[parameters.Count];
        _second = new Tensor[parameters.Count];
        _masters = new Tensor?[parameters.Count];
        using var made = new Tentative();
        for (int i = 0; i < parameters.Count; i++)
        {
            Tensor value = parameters[i].Value;
            _first[i] = made.Add(Tensor.Zeros(value.Shape, StateType(value), value.Device));
            _second[i] = made.Add(Tensor.Zeros(value.Shape, StateType(value), value.Device));
            _masters[i] = MasterOf(value) is { } master ? made.Add(master) : null;
        }

        made.Keep();
    }

    /// <summary>Hyper-parameters.</summary>
    public AdamWOptions Options { get; }

    /// <summary>Updates made so far.</summary>
    public int Steps { get; private set; }

    /// <summary>Bytes of moments and masters.</summary>
    public long StateBytes => State().Sum(s => s.Tensor.ByteLength);

    /// <summary>
    /// Global L2 norm of all gradients, in double precision and a fixed order; parameters without a gradient count as zero.
    /// </summary>
    public double GradientNorm() =>
        Kernels.GradientNorm.Compute([.. _parameters.Where(p => p.Gradient is not null).Select(p => p.Gradient!)]);

    /// <summary>Updates all parameters that have a gradient, and drops the gradients.</summary>
    /// <param name="learningRate">This step's rate.</param>
    /// <param name="gradientScale">Factor on every gradient: the clipping coefficient, or 1.</param>
    public void Step(double learningRate, double gradientScale = 1)
    {
        Steps++;
        var slots = new List<AdamWSlot>(_parameters.Count);
        for (int i = 0; i < _parameters.Count; i++)
        {
            if (_parameters[i].Gradient is { } gradient)
            {
                slots.Add(new AdamWSlot(_parameters[i].Value, gradient, _first[i], _second[i], _masters[i]));
            }
        }

        AdamW.Step(slots, new AdamWStep(
            learningRate, Options.Beta1, Options.Beta2, Options.Epsilon, Options.WeightDecay, Steps, gradientScale));
        foreach (Variable parameter in _parameters)
        {
            parameter.ClearGradient();
        }
    }

    /// <summary>
    /// Gives every parameter a gradient buffer that stays (see <see cref="Variable.BindGradient"/>) and makes the update ready
    /// to be recorded: from now on a step is <see cref="Prepare"/>, <see cref="Run"/>, and, once the device was waited for, a
    /// look at <see cref="Norm"/>.
    /// </summary>
    public void BindGradients()
    {
        if (_plan is not null)
        {
            return;
        }

        foreach (Variable parameter in _parameters)
        {
            parameter.BindGradient(parameter.Value.ZerosLike());
        }

        _plan = AdamWPlan.Create([.. _parameters.Select((p, i) => new AdamWSlot(p.Value, p.Gradient!, _first[i], _second[i], _masters[i]))]);
        _norm = _plan.Norm.Device.AllocateHost(_plan.Norm.ByteLength);
    }

    /// <summary>Counts a step and sends its numbers to the device; not part of a recording.</summary>
    /// <param name="learningRate">This step's rate.</param>
    /// <param name="clip">Norm above which gradients are scaled down, or null.</param>
    public void Prepare(double learningRate, double? clip)
    {
        Steps++;
        Plan.SetStep(
            new AdamWStep(learningRate, Options.Beta1, Options.Beta2, Options.Epsilon, Options.WeightDecay, Steps), clip);
    }

    /// <summary>
    /// Queues the norm of all gradients, the update of all parameters and the clearing of the gradients. Where the norm or
    /// <paramref name="loss"/> [1] is not finite nothing is updated.
    /// </summary>
    public void Run(Tensor loss) => Plan.Run(loss);

    /// <summary>Drops all gradients, those of a step that failed.</summary>
    public void ClearGradients()
    {
        foreach (Variable parameter in _parameters)
        {
            parameter.ClearGradient();
        }
    }

    /// <summary>Queues the norm's way to the host.</summary>
    public void DownloadNorm() => Plan.Norm.Device.Download(Plan.Norm.Pointer, _norm!, Plan.Norm.ByteLength);

    /// <summary>The norm of the last step's gradients before clipping; the device has been waited for since <see cref="DownloadNorm"/>.</summary>
    public double Norm => _norm!.Span<double>()[0];

    /// <summary>Takes back the count of a step that updated nothing.</summary>
    public void Withdraw() => Steps--;

    /// <summary>
    /// PyTorch's <c>clip_grad_norm_</c> coefficient: min(1, limit/(norm + 1e-6)); 1 without a limit.
    /// </summary>
    public static double ClipCoefficient(double norm, double? limit) =>
        limit is { } max ? Kernels.GradientNorm.ClipScale(norm, max) : 1;

    /// <summary>The state to save: moments and masters under their parameters' names.</summary>
    public IEnumerable<(string Name, Tensor Tensor)> State()
    {
        for (int i = 0; i < _parameters.Count; i++)
        {
            string name = _parameters[i].Name ?? throw new InvalidOperationException("a parameter without a name cannot be saved");
            yield return ($"{name}#exp_avg", _first[i]);
            yield return ($"{name}#exp_avg_sq", _second[i]);
            if (_masters[i] is { } master)
            {
                yield return ($"{name}#master", master);
            }
        }
    }

    /// <summary>Continues the count of updates after the state has been loaded into <see cref="State"/>'s tensors.</summary>
    public void Restore(int steps) => Steps = steps;

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_plan is not null)
        {
            _plan.Dispose();
            _norm!.Dispose();
            foreach (Variable parameter in _parameters)
            {
                parameter.UnbindGradient();
            }
        }

        foreach (Tensor? tensor in _first.Concat(_second).Concat(_masters))
        {
            tensor?.Dispose();
        }
    }

    private AdamWPlan Plan => _plan ?? throw new InvalidOperationException("gradients are not bound; call BindGradients first");

    private static DType StateType(Tensor parameter) => parameter.DType == DType.F64 ? DType.F64 : DType.F32;

    private static Tensor? MasterOf(Tensor parameter)
    {
        if (parameter.DType is DType.F32 or DType.F64)
        {
            return null;
        }

        Tensor master = parameter.EmptyLike(DType.F32);
        Cast.Run(parameter, master);
        return master;
    }
}

using System.Security.Cryptography;
using System.Text;
using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>What a merge did to the base.</summary>
/// <param name="Parameters">Base parameters written into.</param>
/// <param name="CorrectedElements">Elements whose bits subtraction alone would not bring back.</param>
/// <param name="CorrectionBytes">Memory held so that <see cref="AdaptedModel.Unmerge"/> returns the exact bits.</param>
public sealed record MergeSummary(int Parameters, long CorrectedElements, long CorrectionBytes);

public sealed partial class AdaptedModel
{
    private List<MergedLinear>? _merged;

    /// <summary>True while adapters are written into the base.</summary>
    public bool IsMerged => _merged is not null;

    /// <summary>
    /// Writes adapters into the base, W ← W + Σ weightᵢ·sᵢ·Bᵢ·Aᵢ (for DoRA W ← (m/‖W + s·B·A‖)∘(W + s·B·A)), computed in f32
    /// and rounded once to the base's dtype. Keeps what <see cref="Unmerge"/> needs to return the exact bits.
    /// </summary>
    /// <param name="parts">Adapters with their weights; DoRA, PiSSA and copies of whole parameters only alone with weight 1.</param>
    /// <exception cref="EngineDataException">An adapter is unknown or cannot be merged so, or the base is merged already.</exception>
    public MergeSummary Merge(IReadOnlyList<(string Name, double Weight)> parts)
    {
        ArgumentNullException.ThrowIfNull(parts);
        RequireUnmerged("merge");
        (LoraAdapter Adapter, double Weight)[] sources = [.. parts.Select(p => (Get(p.Name), p.Weight))];
        RequireMergeable(sources);
        Activate(sources is [{ Adapter.HasStandIns: true }] ? sources[0].Adapter.Name : null);
        Base.Device.InvalidateGraphs();
        _selection.Active = null;
        _merged = [];
        foreach (LinearStack stack in Base.Stacks.Where(_ => sources is [{ Adapter.Config.UseDora: true }]))
        {
            MakeDense(stack);
        }

        foreach (LinearModule linear in Base.Linears)
        {
            (LoraLayer Layer, double Weight)[] layers = _linears.TryGetValue(linear.Path, out LoraLinear? adapted)
                ? [.. sources.Select(s => (Layer: adapted.LayerOf(s.Adapter)!, s.Weight)).Where(l => l.Layer is not null)]
                : [];
            if (layers.Length > 0)
            {
                _merged.Add(Merge(linear, layers));
            }
        }

        return new MergeSummary(
            _merged.Count + sources.Sum(s => s.Adapter.Copies.Count),
            _merged.Sum(m => m.Correction?.Elements ?? 0),
            _merged.Sum(m => m.Correction?.SizeInBytes ?? m.Pristine!.ByteLength));
    }

    /// <summary>
    /// Takes merged adapters out of the base again: every parameter has the bits it had before. No adapter is active afterwards.
    /// </summary>
    /// <exception cref="InvalidOperationException">Nothing is merged.</exception>
    public void Unmerge()
    {
        if (_merged is null)
        {
            throw new InvalidOperationException("nothing is merged");
        }

        foreach (MergedLinear merged in _merged)
        {
            if (merged.Pristine is { } pristine)
            {
                merged.Weight.Replace(pristine);
            }
            else
            {
                Kernels.Merge.Undo(merged.Weight.Value, merged.Terms, merged.IsTransposed, merged.Correction!);
                merged.Correction!.Dispose();
            }
        }

        _merged = null;
        Base.Device.InvalidateGraphs();
        Activate(null);
    }

    /// <summary>
    /// A hash of every base parameter's bits, names and shapes: equal hashes before a merge and after its undoing show that
    /// the base was restored.
    /// </summary>
    public string BaseHash()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach ((string name, Variable parameter) in Base.Parameters.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            Tensor value = parameter.Value;
            hash.AppendData(Encoding.UTF8.GetBytes($"{name} {value.DType.Name()}{value.Shape} {TensorHash.ComputeText(value)}\n"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset().AsSpan(0, 16));
    }

    /// <summary>
    /// Saves the model as it answers now, merged adapters and their copies of whole parameters included, as a plain model
    /// directory that needs no adapter (PEFT's <c>merge_and_unload</c>).
    /// </summary>
    /// <param name="directory">Where to write.</param>
    /// <param name="source">The base's directory: its tokenizer files go along.</param>
    /// <param name="dtype">Dtype to store, or null for the one held.</param>
    /// <exception cref="EngineDataException">The directory cannot be written, or a tied head has become another tensor.</exception>
    public void SaveMerged(string directory, string? source, DType? dtype = null)
    {
        Dictionary<string, Tensor> replaced = _displaced.Keys.ToDictionary(n => n, n => _slots[n].Value, StringComparer.Ordinal);
        string? untied = Base.Config.TieWordEmbeddings
            ? replaced.Keys.FirstOrDefault(n => n == $"{Base.Head.Path}.weight" || n == $"{Base.TokenEmbedding.Path}.weight")
            : null;
        if (untied is not null)
        {
            throw new EngineDataException(
                $"the adapter trained {untied} by itself, but the base ties its head to its embedding (tie_word_embeddings is true): " +
                "a merged directory cannot hold both; untie the base first");
        }

        Base.Save(directory, source, dtype, replaced);
    }

    private void RequireMergeable((LoraAdapter Adapter, double Weight)[] sources)
    {
        if (sources.Length == 0)
        {
            throw new EngineDataException("no adapters were given to merge");
        }

        foreach ((LoraAdapter adapter, double weight) in sources)
        {
            bool whole = adapter.Config.UseDora || adapter.HasStandIns;
            if (!double.IsFinite(weight))
            {
                throw new EngineDataException($"adapter \"{adapter.Name}\": weight {weight} is not a finite number");
            }

            if (whole && (sources.Length > 1 || weight != 1))
            {
                throw new EngineDataException(
                    $"adapter \"{adapter.Name}\" {Peculiarity(adapter)}: it can only be merged alone and with weight 1");
            }

            if (Base.Config.TieWordEmbeddings && adapter.Layers.Any(l => l.Path == Base.Head.Path))
            {
                throw new EngineDataException(
                    $"adapter \"{adapter.Name}\" adapts {Base.Head.Path}, which the base ties to its embedding (tie_word_embeddings is true): " +
                    "merging would change the embedding too; untie the base first");
            }
        }
    }

    private static MergedLinear Merge(LinearModule linear, (LoraLayer Layer, double Weight)[] layers)
    {
        MergeTerm[] terms = [.. layers.Select(l => new MergeTerm(l.Layer.A.Value, l.Layer.B.Value, (float)(l.Weight * l.Layer.Target.Scale)))];
        LoraLayer layer = layers[0].Layer;
        if (layer.Magnitude is null)
        {
            MergeCorrection correction = Kernels.Merge.ApplyExact(linear.Weight.Value, terms, linear.IsTransposed);
            return new MergedLinear(linear.Weight, linear.IsTransposed, terms, correction, null);
        }

        // DoRA rescales whole rows: the pristine weight is kept, and the sum is formed in f32 before the one rounding.
        Tensor pristine = linear.Weight.Value;
        using Tensor norm = LoraLinear.DoraNorm(linear, layer);
        using Tensor ratio = norm.EmptyLike();
        Dora.Ratio(layer.Magnitude.Value, norm, ratio);
        Tensor sum = pristine.EmptyLike(norm.DType);
        Cast.Run(pristine, sum);
        Kernels.Merge.Apply(sum, terms, linear.IsTransposed);
        Dora.ScaleOutputs(sum, ratio, linear.IsTransposed);
        Tensor merged = pristine.EmptyLike();
        Cast.Run(sum, merged);
        sum.Dispose();
        Tensor kept = pristine.Share();
        linear.Weight.Replace(merged);
        return new MergedLinear(linear.Weight, linear.IsTransposed, terms, null, kept);
    }

    private void RequireUnmerged(string what)
    {
        if (_merged is not null)
        {
            throw new EngineDataException($"cannot {what} while adapters are merged into the base; unmerge first");
        }
    }

    private void DisposeMerge()
    {
        foreach (MergedLinear merged in _merged ?? [])
        {
            merged.Pristine?.Dispose();
            merged.Correction?.Dispose();
        }

        _merged = null;
    }

    private sealed record MergedLinear(
        Variable Weight, bool IsTransposed, MergeTerm[] Terms, MergeCorrection? Correction, Tensor? Pristine);
}

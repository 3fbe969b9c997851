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
/// <param name="Layers">What the merge lost in each layer; null unless asked for.</param>
public sealed record MergeSummary(
    int Parameters, long CorrectedElements, long CorrectionBytes, IReadOnlyList<LayerMergeReport>? Layers);

/// <summary>What a merge did to one layer.</summary>
/// <param name="Path">The linear's path.</param>
/// <param name="DType">Dtype of its weight.</param>
/// <param name="Error">
/// What rounding took from the update; null for DoRA, which rescales whole rows instead of adding a Δ.
/// </param>
/// <param name="CorrectedElements">Elements whose bits subtraction alone would not bring back; 0 where the pristine weight is kept.</param>
/// <param name="CorrectionBytes">Memory held for the way back.</param>
public sealed record LayerMergeReport(string Path, DType DType, MergeError? Error, long CorrectedElements, long CorrectionBytes);

public sealed partial class AdaptedModel
{
    private MergedBase? _merged;

    /// <summary>True while adapters are written into the base.</summary>
    public bool IsMerged => _merged is not null;

    /// <summary>
    /// Writes adapters into the base, W ← W + Σ weightᵢ·sᵢ·Bᵢ·Aᵢ (for DoRA W ← (m/‖W + s·B·A‖)∘(W + s·B·A)), computed in f32
    /// and rounded once to the base's dtype. Keeps what <see cref="Unmerge"/> needs to return the exact bits.
    /// </summary>
    /// <param name="parts">Adapters with their weights; DoRA, PiSSA and copies of whole parameters only alone with weight 1.</param>
    /// <param name="report">Whether the summary says for each layer what rounding took: one more pass over the weights.</param>
    /// <exception cref="EngineDataException">An adapter is unknown or cannot be merged so, or the base is merged already.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for what the way back needs; the base is as it was and no adapter active.</exception>
    public MergeSummary Merge(IReadOnlyList<(string Name, double Weight)> parts, bool report = false)
    {
        ArgumentNullException.ThrowIfNull(parts);
        RequireUnmerged("merge");
        (LoraAdapter Adapter, double Weight)[] sources = [.. parts.Select(p => (Get(p.Name), p.Weight))];
        RequireMergeable(sources);
        Activate(sources is [{ Adapter.HasStandIns: true }] ? sources[0].Adapter.Name : null);
        Base.Device.InvalidateGraphs();
        _selection.Active = null;
        try
        {
            if (sources is [{ Adapter.Config.UseDora: true }])
            {
                // DoRA rescales whole weights.
                foreach (LinearStack stack in Base.Stacks)
                {
                    MakeDense(stack);
                }
            }

            return Write(sources, report);
        }
        catch
        {
            Activate(null);
            throw;
        }
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

        Kernels.Merge.Undo(_merged.Targets, _merged.Corrections);
        _merged.Corrections.Dispose();
        foreach ((Variable weight, Tensor pristine) in _merged.Pristine)
        {
            weight.Replace(pristine);
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
        (string Name, Tensor Value)[] parameters =
            [.. Base.Parameters.OrderBy(static p => p.Key, StringComparer.Ordinal).Select(static p => (p.Key, p.Value.Value))];
        UInt128[] hashes = TensorHash.Compute([.. parameters.Select(static p => p.Value)]);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (int i = 0; i < hashes.Length; i++)
        {
            (string name, Tensor value) = parameters[i];
            hash.AppendData(Encoding.UTF8.GetBytes($"{name} {value.DType.Name()}{value.Shape} {TensorHash.Text(hashes[i])}\n"));
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

    // Writes the linears; all of them or, when memory runs out, none.
    private MergeSummary Write((LoraAdapter Adapter, double Weight)[] sources, bool report)
    {
        (List<AdaptedLinear> added, List<AdaptedLinear> rescaled) = Selected(sources);
        MergeTarget[] targets = [.. added.Select(static l => new MergeTarget(l.Linear.Weight.Value, l.Terms, l.Linear.IsTransposed))];

        // First what only makes new tensors, then all that is added in place, which is done as a whole or not at all.
        using var made = new Tentative();
        Tensor[] merged = [.. rescaled.Select(l => made.Add(Rescaled(l)))];
        IReadOnlyList<MergeError> errors = report ? Kernels.Merge.Report(targets) : [];
        MergeCorrections corrections = Kernels.Merge.ApplyExact(targets);
        (Variable, Tensor)[] pristine = [.. rescaled.Select(static l => (l.Linear.Weight, l.Linear.Weight.Value.Share()))];
        for (int i = 0; i < merged.Length; i++)
        {
            rescaled[i].Linear.Weight.Replace(merged[i]);
        }

        made.Keep();
        _merged = new MergedBase(targets, corrections, pristine);
        return new MergeSummary(
            targets.Length + pristine.Length + sources.Sum(s => s.Adapter.Copies.Count),
            corrections.Elements,
            corrections.SizeInBytes + pristine.Sum(static p => p.Item2.ByteLength),
            report ? Layers(added, rescaled, errors, corrections) : null);
    }

    // The linears that the adapters change: those that get a sum, and DoRA's.
    private (List<AdaptedLinear> Added, List<AdaptedLinear> Rescaled) Selected((LoraAdapter Adapter, double Weight)[] sources)
    {
        (var added, var rescaled) = (new List<AdaptedLinear>(), new List<AdaptedLinear>());
        foreach (LinearModule linear in Base.Linears)
        {
            (LoraLayer Layer, double Weight)[] layers = _linears.TryGetValue(linear.Path, out LoraLinear? adapted)
                ? [.. sources.Select(s => (Layer: adapted.LayerOf(s.Adapter)!, s.Weight)).Where(l => l.Layer is not null)]
                : [];
            if (layers.Length > 0)
            {
                MergeTerm[] terms =
                    [.. layers.Select(l => new MergeTerm(l.Layer.A.Value, l.Layer.B.Value, (float)(l.Weight * l.Layer.Target.Scale)))];
                (layers[0].Layer.Magnitude is null ? added : rescaled).Add(new AdaptedLinear(linear, layers[0].Layer, terms));
            }
        }

        return (added, rescaled);
    }

    // DoRA rescales whole rows: the pristine weight is kept, and the sum is formed in f32 before the one rounding.
    private static Tensor Rescaled(AdaptedLinear adapted)
    {
        (LinearModule linear, LoraLayer layer, MergeTerm[] terms) = adapted;
        Tensor pristine = linear.Weight.Value;
        using Tensor norm = LoraLinear.DoraNorm(linear, layer);
        using Tensor ratio = norm.EmptyLike();
        Dora.Ratio(layer.Magnitude!.Value, norm, ratio);
        using Tensor sum = pristine.EmptyLike(norm.DType);
        Cast.Run(pristine, sum);
        Kernels.Merge.Apply([new MergeTarget(sum, terms, linear.IsTransposed)]);
        Dora.ScaleOutputs(sum, ratio, linear.IsTransposed);
        Tensor merged = pristine.EmptyLike();
        Cast.Run(sum, merged);
        return merged;
    }

    private static LayerMergeReport[] Layers(
        List<AdaptedLinear> added, List<AdaptedLinear> rescaled, IReadOnlyList<MergeError> errors, MergeCorrections corrections)
    {
        IReadOnlyList<(long Elements, long Bytes)> sizes = corrections.Sizes();
        return
        [
            .. added.Select((l, i) => new LayerMergeReport(l.Linear.Path, l.Linear.Weight.Value.DType, errors[i], sizes[i].Elements, sizes[i].Bytes)),
            .. rescaled.Select(static l => new LayerMergeReport(l.Linear.Path, l.Linear.Weight.Value.DType, null, 0, l.Linear.Weight.Value.ByteLength)),
        ];
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
        _merged?.Corrections.Dispose();
        foreach ((_, Tensor pristine) in _merged?.Pristine ?? [])
        {
            pristine.Dispose();
        }

        _merged = null;
    }

    /// <summary>A linear, its layer of the first adapter, and all adapters' terms.</summary>
    private sealed record AdaptedLinear(LinearModule Linear, LoraLayer Layer, MergeTerm[] Terms);

    /// <summary>What is in the base, and the way back: corrections for what was added in place, pristine weights of the rest.</summary>
    private sealed record MergedBase(MergeTarget[] Targets, MergeCorrections Corrections, (Variable Weight, Tensor Value)[] Pristine);
}

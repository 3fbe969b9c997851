using Engine.Lora.Data;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// The floating-point operations that a training step of a model asks for, whoever does it: for each token 4·P for the P
/// weights of the layers' linears and the head (forward, and the gradient of their inputs) and 6·A for the A elements of an
/// adapter's factors, or 6·P where all weights train; for each row 6·L·T²·H·D for causal attention over T tokens in L layers of
/// H heads of D (two products forward, four backward, half of each). The head counts for every token, also where a prompt has no
/// labels and Engine leaves it out. Nothing that is computed again counts, nor do norms and activations, nor copies of base
/// modules that are trained beside an adapter. <c>bench/pytorch/compare.py</c> counts alike.
/// </summary>
public sealed class ModelFlops
{
    private readonly double _token;
    private readonly double _squaredLength;

    /// <summary>Prepares the count.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="trained">Elements of the adapter's A and B; of no account where all weights are trained.</param>
    /// <param name="full">Whether all weights are trained.</param>
    public ModelFlops(ModelConfig config, long trained, bool full)
    {
        ArgumentNullException.ThrowIfNull(config);
        double attended = (double)config.HeadCount * config.HeadDim;
        double keys = (double)config.KeyValueHeadCount * config.HeadDim;
        double layer = config.HiddenSize * ((2 * attended) + (2 * keys) + ((config.GatedMlp ? 3.0 : 2.0) * config.IntermediateSize));
        double weights = (config.LayerCount * layer) + ((double)config.VocabularySize * config.HiddenSize);
        _token = full ? 6 * weights : (4 * weights) + (6.0 * trained);
        _squaredLength = 6 * config.LayerCount * attended;
    }

    /// <summary>Prepares the count for a model whose adapter is active, or all of whose weights are trained.</summary>
    public static ModelFlops OfTraining(AdaptedModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        long factors = model.Active?.Layers.Sum(static layer => layer.A.Value.Elements + layer.B.Value.Elements) ?? 0;
        return new ModelFlops(model.Base.Config, factors, full: model.Active is null);
    }

    /// <summary>Of rows of these lengths; a row of packed examples counts as one.</summary>
    public double Of(ReadOnlySpan<int> lengths)
    {
        double sum = 0;
        foreach (int length in lengths)
        {
            sum += (_token * length) + (_squaredLength * length * length);
        }

        return sum;
    }

    /// <summary>Of a step over these batches, padding not counted.</summary>
    public double Of(IReadOnlyList<Batch> batches)
    {
        ArgumentNullException.ThrowIfNull(batches);
        double sum = 0;
        foreach (Batch batch in batches)
        {
            sum += Of(batch.Lengths);
        }

        return sum;
    }
}

using Engine.Lora.Data;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// The floating-point operations that a training step of a model has to do, whoever does it: for each token 4·P for the P
/// weights of the layers' linears and the head (forward, and the gradient of their inputs) and 6·A for the A parameters of an
/// adapter, or 6·P where all weights train; for each row 6·L·T²·H·D for causal attention over T tokens in L layers of H heads
/// of D (two products forward, four backward, half of each). Nothing that is computed again counts, nor do norms and
/// activations. <c>bench/pytorch/compare.py</c> counts alike.
/// </summary>
public sealed class ModelFlops
{
    private readonly double _token;
    private readonly double _squaredLength;

    /// <summary>Prepares the count.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="trained">Trained parameters; beside a frozen base those of the adapter.</param>
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

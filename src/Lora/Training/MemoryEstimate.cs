using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>How much memory a training takes, in bytes, before it is started.</summary>
/// <remarks>
/// <para>Weights, gradients and the optimizer's state are exact: gradients have the trained parameters' dtype, AdamW keeps
/// two f32 moments, and an f32 master where the parameter is bf16 or f16.</para>
/// <para>Activations are an upper estimate for a batch of t = rows · length tokens, all rows as long as the longest. With
/// hidden width h, query width q, key width k, MLP width i (all in elements of size e) and n blocks, backward needs of each
/// block: the inputs of both norms and their outputs (4h), q, k, v and the attention's output (2q + 2k), and the MLP's two
/// inner products with their activation (3i; 2i without a gate):</para>
/// <code>
/// block       = t·e·(4h + 2q + 2k + 3i)
/// plain       = n·block + 2·block + 2·t·h·e      (kept, then gradients of about the block in work, embedding and final norm)
/// checkpointed = n·t·h·e + 3·block + 2·t·h·e     (block inputs kept, one block computed again)
/// </code>
/// <para>The head works on chunks of rows and adds no [t, vocabulary] tensor unless it is itself adapted.</para>
/// </remarks>
/// <param name="Weights">The base and the adapter.</param>
/// <param name="Gradients">Gradients of what is trained.</param>
/// <param name="Optimizer">Moments and masters.</param>
/// <param name="Activations">The largest batch's activations.</param>
public sealed record MemoryEstimate(long Weights, long Gradients, long Optimizer, long Activations)
{
    /// <summary>Everything.</summary>
    public long Total => Weights + Gradients + Optimizer + Activations;

    /// <summary>Estimates a fine-tuning.</summary>
    public static MemoryEstimate Of(FineTuning tuning)
    {
        ArgumentNullException.ThrowIfNull(tuning);
        return tuning.Run.EstimateMemory(tuning.Options.BatchSize, tuning.Options.GradientCheckpointing);
    }

    /// <summary>Estimates a training.</summary>
    /// <param name="model">The base.</param>
    /// <param name="trained">What is trained: an adapter's parameters or the base's own.</param>
    /// <param name="optimizerBytes">Moments and masters.</param>
    /// <param name="tokens">Tokens of the largest batch, padding included.</param>
    /// <param name="checkpointing">Whether blocks are computed again in the backward pass.</param>
    public static MemoryEstimate Of(
        DecoderModel model, IReadOnlyList<Variable> trained, long optimizerBytes, long tokens, bool checkpointing)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(trained);
        var own = model.Parameters.Values.ToHashSet();
        return new MemoryEstimate(
            own.Sum(p => p.Value.ByteLength) + trained.Where(p => !own.Contains(p)).Sum(p => p.Value.ByteLength),
            trained.Sum(p => p.Value.ByteLength),
            optimizerBytes,
            ActivationsOf(model, tokens, checkpointing));
    }

    private static long ActivationsOf(DecoderModel model, long tokens, bool checkpointing)
    {
        ModelConfig config = model.Config;
        long size = model.DType.Size();
        long query = (long)config.HeadCount * config.HeadDim;
        long key = (long)config.KeyValueHeadCount * config.HeadDim;
        long inner = (config.GatedMlp ? 3L : 2L) * config.IntermediateSize;
        long block = tokens * size * ((4L * config.HiddenSize) + (2 * query) + (2 * key) + inner);
        long stream = tokens * size * config.HiddenSize;
        return checkpointing
            ? (config.LayerCount * stream) + (3 * block) + (2 * stream)
            : ((config.LayerCount + 2) * block) + (2 * stream);
    }
}

using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>How much memory a training takes, in bytes, before it is started.</summary>
/// <remarks>
/// <para>Weights, gradients and the optimizer's state are exact: gradients have the trained parameters' dtype, AdamW keeps
/// two f32 moments, and an f32 master where the parameter is bf16 or f16.</para>
/// <para>Activations are an upper estimate for a batch of t = rows · length tokens, all rows as long as the longest. With
/// hidden width h, query width q, key width k, MLP width i (all in elements of size e) and n blocks, backward needs of each
/// block: the sums that the norms read (2h), q, k, v and the attention's output (2q + 2k), the MLP's inner products (2i; i without
/// a gate), and, where a linear has an adapter or is trained, its input with the border that adapters lie in: those of the
/// projections and of the MLP (h each) and of the MLP's end (i), or the border alone where backward makes do without the rest: with
/// the sums behind a norm, with the inner products behind a gate. (Where nothing before the first norm is trained, its
/// result is kept in place of its sum.) Beside them lie, one after the other, the head's logits, a chunk of rows c in e (f32 on
/// the CPU) with their gradient in the same place, and the gradients of the block in work, at most twice a block with everything:</para>
/// <code>
/// whole        = t·e·(4h + 2q + 2k + 3i)
/// plain        = n·block + max(2·whole, c·vocabulary·e) + 4·t·h·e
/// checkpointed = n·t·h·e + max(3·whole, c·vocabulary·e) + 4·t·h·e
/// </code>
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
        long hidden = config.HiddenSize;
        long inner = config.IntermediateSize;
        long attention = 2L * config.HeadDim * (config.HeadCount + config.KeyValueHeadCount);
        long whole = tokens * size * ((4 * hidden) + attention + ((config.GatedMlp ? 3 : 2) * inner));
        long stream = tokens * size * hidden;
        long rows = Math.Min(tokens, CrossEntropy.ChunkRows(model.Device, config.VocabularySize));
        long head = rows * config.VocabularySize * (model.Device.PrefersNarrowTypes ? size : sizeof(float));
        if (checkpointing)
        {
            return (config.LayerCount * stream) + Math.Max(3 * whole, head) + (4 * stream);
        }

        // Four stacks a block: projections, the attention's end, and the MLP's two.
        long kept = 0;
        foreach (LinearStack[] block in model.Stacks.Chunk(4))
        {
            kept += (2 * hidden) + attention + ((config.GatedMlp ? 2 : 1) * inner);
            kept += KeptNormed(block[0], hidden) + block[1].Border + KeptNormed(block[2], hidden);
            bool again = config.GatedMlp && block[3].Adapter is { IsActive: true, FormsSwiGluAgain: true };
            kept += again ? block[3].Border : KeptInput(block[3], inner);
        }

        return (tokens * size * kept) + Math.Max(2 * whole, head) + (4 * stream);
    }

    // The same where a norm made the input.
    private static long KeptNormed(LinearStack stack, long columns) =>
        stack.Adapter is { IsActive: true, FormsNormedAgain: true } ? stack.Border : KeptInput(stack, columns);

    // Columns of a stack's input that are kept, with the border that its adapters lie in.
    private static long KeptInput(LinearStack stack, long columns) =>
        stack.Adapter is not null || stack.Linears.Any(static l => l.Adapter is not null || l.Weight.RequiresGrad) ? columns + stack.Border : 0;
}

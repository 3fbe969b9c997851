using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>The loss of a batch: its scaled sum as a variable, and each labelled token's own loss.</summary>
/// <param name="Value">gradScale·Σ losses, [1]; backward starts here.</param>
/// <param name="Losses">−log p of each labelled token, in batch order.</param>
public sealed record BatchLoss(Variable Value, double[] Losses) : IDisposable
{
    /// <summary>Sum of the losses in double precision, in batch order.</summary>
    public double Sum => Losses.Sum();

    /// <summary>Number of labelled tokens.</summary>
    public int Count => Losses.Length;

    /// <inheritdoc/>
    public void Dispose() => Value.Dispose();
}

public sealed partial class DecoderModel
{
    /// <summary>Label of a token that does not count.</summary>
    public const int IgnoreLabel = -100;

    /// <summary>
    /// Next-token loss. Labels are aligned with tokens (label[i] is what token i should have been); the shift by one happens
    /// here: the state at t is scored against label t + 1 of the same row. Only labelled positions reach the output head.
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="batch">The batch.</param>
    /// <param name="ids">Token ids [batch·length].</param>
    /// <param name="labels">Labels [batch·length]; <see cref="IgnoreLabel"/> where there is none.</param>
    /// <param name="gradScale">Factor on the sum of losses: 1/n for the mean over n tokens.</param>
    /// <exception cref="EngineDataException">A label is out of range.</exception>
    public BatchLoss Loss(Tape tape, BatchContext batch, ReadOnlySpan<int> ids, ReadOnlySpan<int> labels, float gradScale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        (int[] rows, int[] targets) = LabelledRows(batch, labels);
        using Variable hidden = Hidden(tape, batch, ids);
        using Tensor rowIndex = Tensor.From(rows, [rows.Length], Device);
        using Tensor targetIds = Tensor.From(targets, [targets.Length], Device);
        using Tensor losses = Tensor.Empty([rows.Length], DType == DType.F64 ? DType.F64 : DType.F32, Device);
        using Variable picked = tape.GatherRows(hidden, rowIndex);
        Variable loss;
        if (Head is { Adapter: null or { IsActive: false }, Bias: null, IsTransposed: false })
        {
            loss = tape.HeadCrossEntropy(picked, Head.Weight, targetIds, gradScale, losses);
        }
        else
        {
            using Variable logits = Logits(tape, batch, picked);
            loss = tape.CrossEntropy(logits, targetIds, gradScale, losses);
        }

        double[] each = losses.DType == DType.F64
            ? losses.ToArray<double>()
            : Array.ConvertAll(losses.ToArray<float>(), l => (double)l);
        return new BatchLoss(loss, each);
    }

    /// <summary>Number of tokens that <see cref="Loss"/> will score.</summary>
    public static int CountLabels(int length, ReadOnlySpan<int> labels)
    {
        int count = 0;
        for (int i = 0; i < labels.Length; i++)
        {
            count += i % length != 0 && labels[i] != IgnoreLabel ? 1 : 0;
        }

        return count;
    }

    private (int[] Rows, int[] Targets) LabelledRows(BatchContext batch, ReadOnlySpan<int> labels)
    {
        int count = CountLabels(batch.Length, labels);
        var rows = new int[count];
        var targets = new int[count];
        int next = 0;
        for (int i = 0; i < labels.Length; i++)
        {
            if (i % batch.Length == 0 || labels[i] == IgnoreLabel)
            {
                continue;
            }

            if ((uint)labels[i] >= (uint)Config.VocabularySize)
            {
                throw new EngineDataException(
                    $"label {labels[i]} at index {i} is out of range: the model's vocabulary has {Config.VocabularySize} entries; {IgnoreLabel} marks a token without a label");
            }

            rows[next] = i - 1;
            targets[next++] = labels[i];
        }

        return (rows, targets);
    }
}

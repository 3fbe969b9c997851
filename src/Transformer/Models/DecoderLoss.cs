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
    /// <exception cref="EngineDataException">An id or a label is out of range.</exception>
    public BatchLoss Loss(Tape tape, BatchContext batch, ReadOnlySpan<int> ids, ReadOnlySpan<int> labels, float gradScale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        CheckIds(ids);
        (int[] rows, int[] targets) = LabelledRows(batch, labels);
        DType single = DType == DType.F64 ? DType.F64 : DType.F32;
        using Tensor idTensor = Tensor.From(ids, [ids.Length], Device);
        using Tensor rowIndex = Tensor.From(rows, [rows.Length], Device);
        using Tensor targetIds = Tensor.From(targets, [targets.Length], Device);
        using Tensor scale = single == DType.F64 ? Tensor.From([(double)gradScale], [1], Device) : Tensor.From([gradScale], [1], Device);
        using Tensor losses = Tensor.Empty([rows.Length], single, Device);
        Variable loss = Loss(tape, batch, idTensor, rowIndex, null, targetIds, scale, losses);
        double[] each = single == DType.F64 ? losses.ToArray<double>() : Array.ConvertAll(losses.ToArray<float>(), l => (double)l);
        return new BatchLoss(loss, each);
    }

    /// <summary>
    /// The same for a batch that is in device memory: queues the work and reads nothing back, so that the step can be
    /// recorded. Each label's loss goes to <see cref="LabelledBatch.Losses"/>.
    /// </summary>
    public Variable Loss(Tape tape, LabelledBatch batch)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        return Loss(tape, batch.Context, batch.Ids, batch.LabelRows, batch.LabelPlaces, batch.Targets, batch.GradScale, batch.Losses);
    }

    /// <summary>Number of tokens that a loss will score.</summary>
    public static int CountLabels(int length, ReadOnlySpan<int> labels)
    {
        int count = 0;
        for (int i = 0; i < labels.Length; i++)
        {
            count += i % length != 0 && labels[i] != IgnoreLabel ? 1 : 0;
        }

        return count;
    }

    private Variable Loss(
        Tape tape, BatchContext batch, Tensor ids, Tensor rows, Tensor? places, Tensor targets, Tensor gradScale, Tensor losses)
    {
        using Variable picked = Picked(tape, batch, ids, rows, places);
        using Device.RangeScope range = Device.Range("head");
        if (Head is { Adapter: null or { IsActive: false }, Bias: null, IsTransposed: false })
        {
            return tape.HeadCrossEntropy(picked, Head.Weight, targets, gradScale, losses, inPlace: true);
        }

        using Variable logits = Logits(tape, batch, picked);
        return tape.CrossEntropy(logits, targets, gradScale, losses);
    }

    // The states of the rows that have labels; those of all rows are given up before the head needs memory.
    private Variable Picked(Tape tape, BatchContext batch, Tensor ids, Tensor rows, Tensor? places)
    {
        using Variable hidden = Hidden(tape, batch, ids);
        return tape.GatherRows(hidden, rows, places);
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

namespace Engine.Lora.Data;

/// <summary>
/// Examples side by side, padded on the right to the longest: arrays of [<see cref="Rows"/>, <see cref="Length"/>],
/// row-major. Padding has label −100 and forms a segment of its own at the row's end.
/// </summary>
public sealed class Batch
{
    private Batch(int rows, int length)
    {
        Rows = rows;
        Length = length;
        Tokens = new int[checked(rows * length)];
        Labels = new int[rows * length];
        SegmentStarts = new int[rows * length];
        Lengths = new int[rows];
    }

    /// <summary>Number of rows.</summary>
    public int Rows { get; }

    /// <summary>Tokens in each row, padding included.</summary>
    public int Length { get; }

    /// <summary>Token ids [Rows, Length].</summary>
    public int[] Tokens { get; }

    /// <summary>Labels [Rows, Length], not shifted (see <see cref="Example"/>); −100 where nothing is learned.</summary>
    public int[] Labels { get; }

    /// <summary>
    /// For each token, the index in its row at which its segment begins [Rows, Length]: 0 everywhere but in packed
    /// rows, and each row's own length in its padding.
    /// </summary>
    public int[] SegmentStarts { get; }

    /// <summary>Tokens of each row without padding [Rows].</summary>
    public int[] Lengths { get; }

    /// <summary>
    /// Which adapter each row trains [Rows]: an index into the names given to <see cref="AdaptedModel.TrainMixed"/>, −1 for
    /// none. Null where one adapter is trained.
    /// </summary>
    public IReadOnlyList<int>? RowAdapters { get; set; }

    /// <summary>True when a row holds more than one example.</summary>
    public bool IsPacked { get; private set; }

    /// <summary>Number of targets in the batch.</summary>
    public int LabelledTokens { get; private set; }

    /// <summary>Number of tokens without padding.</summary>
    public int TokenCount => Lengths.Sum();

    /// <summary>Puts examples side by side.</summary>
    /// <param name="examples">At least one.</param>
    /// <param name="padId">The id in the padding; any id of the vocabulary does, it is neither attended to nor learned.</param>
    public static Batch Collate(IReadOnlyList<Example> examples, int padId = 0)
    {
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentOutOfRangeException.ThrowIfZero(examples.Count, nameof(examples));
        var batch = new Batch(examples.Count, examples.Max(example => example.Length));
        for (int row = 0; row < examples.Count; row++)
        {
            batch.Fill(row, examples[row], padId);
        }

        return batch;
    }

    private void Fill(int row, Example example, int padId)
    {
        int start = row * Length;
        int padding = Length - example.Length;
        example.Tokens.CopyTo(Tokens, start);
        Array.Fill(Tokens, padId, start + example.Length, padding);
        example.Labels.CopyTo(Labels, start);
        Array.Fill(Labels, Example.IgnoredLabel, start + example.Length, padding);
        example.SegmentStarts?.CopyTo(SegmentStarts, start);
        Array.Fill(SegmentStarts, example.Length, start + example.Length, padding);
        Lengths[row] = example.Length;
        LabelledTokens += example.LabelledTokens;
        IsPacked |= example.SegmentStarts is [.., > 0];
    }
}

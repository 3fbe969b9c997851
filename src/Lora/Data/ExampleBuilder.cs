using Engine.Tensors;

namespace Engine.Lora.Data;

/// <summary>What <see cref="ExampleBuilder"/> needs of a tokenizer.</summary>
public interface ITokenEncoder
{
    /// <summary>The id that starts a sequence, or null.</summary>
    int? BosId { get; }

    /// <summary>The id that ends a sequence, or null.</summary>
    int? EosId { get; }

    /// <summary>Token ids of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecial">True to add what the tokenizer's own template puts around a text.</param>
    int[] Encode(string text, bool addSpecial);
}

/// <summary>What <see cref="ExampleBuilder"/> keeps to.</summary>
public sealed record ExampleOptions
{
    /// <summary>Token ids lie in [0, VocabularySize).</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Most tokens of an example.</summary>
    public required int MaxLength { get; init; }

    /// <summary>
    /// False: a longer row is an error. True: it is cut, first the beginning of what is given (a start token stays),
    /// then, if what is learned is too long by itself, its end.
    /// </summary>
    public bool Truncate { get; init; }

    /// <summary>Whether an end token is learned after a row that ends with a completion.</summary>
    public bool AppendEos { get; init; } = true;
}

/// <summary>
/// Turns rows into token ids and labels. Segments are tokenised one by one, so that the border between prompt and
/// completion is the same in training as in generation. A start token is put in front when the tokenizer's template does.
/// </summary>
public sealed class ExampleBuilder
{
    private readonly ITokenEncoder? _encoder;
    private readonly ExampleOptions _options;
    private readonly int? _bos;

    /// <summary>Prepares a builder.</summary>
    /// <param name="options">Limits.</param>
    /// <param name="encoder">The tokenizer; may be null when all rows hold ids.</param>
    public ExampleBuilder(ExampleOptions options, ITokenEncoder? encoder)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.VocabularySize, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxLength, 2, nameof(options));
        _options = options;
        _encoder = encoder;

        // What the template puts around nothing tells whether it starts with a BOS.
        _bos = encoder?.BosId is { } bos && encoder.Encode("", addSpecial: true) is [var first, ..] && first == bos ? bos : null;
    }

    /// <summary>Builds every row's example.</summary>
    /// <inheritdoc cref="Build(DataRow)"/>
    public IReadOnlyList<Example> Build(DataSet data)
    {
        ArgumentNullException.ThrowIfNull(data);
        var examples = new Example[data.Rows.Count];
        for (int i = 0; i < examples.Length; i++)
        {
            examples[i] = Build(data.Rows[i]);
        }

        return examples;
    }

    /// <summary>Builds one row's example.</summary>
    /// <exception cref="EngineDataException">
    /// A token id is out of range, the row is too long, nothing in it is learned, or it holds text and there is no tokenizer.
    /// </exception>
    public Example Build(DataRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        var tokens = new List<int>();
        var labels = new List<int>();
        if (row.InputIds is { } ids)
        {
            tokens.AddRange(ids);
            labels.AddRange(row.Labels ?? ids);
        }
        else
        {
            Tokenise(row, tokens, labels);
        }

        CheckRange(row, tokens, labels);
        if (tokens.Count > _options.MaxLength)
        {
            Shorten(row, tokens, labels);
        }

        if (labels.Count > 0)
        {
            labels[0] = Example.IgnoredLabel;
        }

        var example = new Example([.. tokens], [.. labels]);
        return example.LabelledTokens > 0
            ? example
            : throw new EngineDataException($"{row.Source}: there is nothing to learn in the row: no token after the first has a label");
    }

    /// <summary>
    /// The tokens a generation starts from: the row's text before its first completion, or the ids before the first
    /// labelled one. May be empty.
    /// </summary>
    /// <exception cref="EngineDataException">A token id is out of range, or the row holds text and there is no tokenizer.</exception>
    public int[] Prompt(DataRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        var tokens = new List<int>();
        var labels = new List<int>();
        if (row.InputIds is { } ids)
        {
            tokens.AddRange(ids.Take((row.Labels ?? ids).TakeWhile(label => label == Example.IgnoredLabel).Count()));
        }
        else
        {
            Tokenise(row with { Segments = [.. row.PromptSegments] }, tokens, labels);
        }

        CheckRange(row, tokens, labels);
        return [.. tokens];
    }

    private void Tokenise(DataRow row, List<int> tokens, List<int> labels)
    {
        if (_encoder is null)
        {
            throw new EngineDataException($"{row.Source}: the row holds text, and the model has no tokenizer.json to turn it into tokens");
        }

        if (_bos is { } bos)
        {
            tokens.Add(bos);
            labels.Add(Example.IgnoredLabel);
        }

        foreach (TextSegment segment in row.Segments)
        {
            foreach (int id in _encoder.Encode(segment.Text, addSpecial: false))
            {
                tokens.Add(id);
                labels.Add(segment.IsCompletion ? id : Example.IgnoredLabel);
            }
        }

        // The last turn of a conversation may bring the end token itself.
        if (_options.AppendEos && _encoder.EosId is { } eos && row.Segments is [.., { IsCompletion: true }] &&
            (tokens.Count == 0 || tokens[^1] != eos))
        {
            tokens.Add(eos);
            labels.Add(eos);
        }
    }

    private void CheckRange(DataRow row, List<int> tokens, List<int> labels)
    {
        for (int i = 0; i < tokens.Count; i++)
        {
            if ((uint)tokens[i] >= (uint)_options.VocabularySize)
            {
                throw OutOfRange(row, row.InputIds is null ? "token" : "input_ids", i, tokens[i], "");
            }
        }

        for (int i = 0; i < labels.Count; i++)
        {
            if (labels[i] != Example.IgnoredLabel && (uint)labels[i] >= (uint)_options.VocabularySize)
            {
                throw OutOfRange(row, row.InputIds is null ? "label" : "labels", i, labels[i], " or -100");
            }
        }
    }

    private EngineDataException OutOfRange(DataRow row, string field, int index, int value, string also) =>
        new($"{row.Source}: {field}[{index}] is {value}; a token id from 0 to {_options.VocabularySize - 1}{also} is needed, the model's vocabulary has {_options.VocabularySize}");

    private void Shorten(DataRow row, List<int> tokens, List<int> labels)
    {
        int excess = tokens.Count - _options.MaxLength;
        if (!_options.Truncate)
        {
            throw new EngineDataException(
                $"{row.Source}: the sequence has {tokens.Count} tokens, longer than the {_options.MaxLength} allowed; shorten the row, allow a longer sequence (up to the model's own limit), or allow truncation");
        }

        int kept = _bos is not null && row.InputIds is null ? 1 : 0;
        int given = labels.FindIndex(kept, label => label != Example.IgnoredLabel);
        int fromPrompt = Math.Min(excess, (given < 0 ? labels.Count : given) - kept);
        tokens.RemoveRange(kept, fromPrompt);
        labels.RemoveRange(kept, fromPrompt);
        tokens.RemoveRange(_options.MaxLength, tokens.Count - _options.MaxLength);
        labels.RemoveRange(_options.MaxLength, labels.Count - _options.MaxLength);
    }
}

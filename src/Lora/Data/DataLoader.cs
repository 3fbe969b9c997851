using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Lora.Data;

/// <summary>
/// Reads data files for one model: with its tokenizer, its chat template and its limits. A model directory without a
/// <c>tokenizer.json</c> serves for data that are token ids.
/// </summary>
public sealed class DataLoader
{
    private readonly IChatFormat? _chat;

    /// <summary>Prepares reading for a model.</summary>
    /// <param name="config">The model's configuration.</param>
    /// <param name="tokenizer">Its tokenizer, or null when there is none.</param>
    /// <param name="maxLength">Longest row in tokens; null for the model's own limit.</param>
    /// <param name="truncate">Cut longer rows (true) or refuse them (false).</param>
    /// <exception cref="EngineDataException">The length is beyond the model, or the tokenizer belongs to another one.</exception>
    public DataLoader(ModelConfig config, Tokenizer? tokenizer, int? maxLength = null, bool truncate = false)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (maxLength > config.MaxPositions)
        {
            throw new EngineDataException(
                $"max_length is {maxLength}; the model's longest sequence is {config.MaxPositions} (max_position_embeddings)");
        }

        MaxLength = maxLength ?? config.MaxPositions;
        Tokenizer = tokenizer;
        _chat = tokenizer is null ? null : new TemplateChat(tokenizer);
        Builder = new ExampleBuilder(
            new ExampleOptions { VocabularySize = config.VocabularySize, MaxLength = MaxLength, Truncate = truncate },
            tokenizer is null ? null : new TokenizerEncoder(tokenizer));
    }

    /// <summary>The tokenizer, or null.</summary>
    public Tokenizer? Tokenizer { get; }

    /// <summary>Longest row in tokens.</summary>
    public int MaxLength { get; }

    /// <summary>Turns rows into tokens.</summary>
    public ExampleBuilder Builder { get; }

    /// <summary>The tokenizer of a model directory, or null when it has none.</summary>
    /// <exception cref="EngineDataException"><c>tokenizer.json</c> is there and malformed.</exception>
    public static Tokenizer? TokenizerOf(string directory) =>
        File.Exists(Path.Combine(directory, "tokenizer.json")) ? Tokenizer.Load(directory) : null;

    /// <summary>Reads a file's rows.</summary>
    /// <inheritdoc cref="DataReader.Load" path="/exception"/>
    public DataSet Read(string path) => DataReader.Load(path, _chat);

    /// <summary>Reads a file's rows as tokens with labels.</summary>
    /// <exception cref="EngineDataException">The file or a row of it is wrong, or a row does not fit the model.</exception>
    public IReadOnlyList<Example> Examples(string path) => Builder.Build(Read(path));

    /// <summary>Reads a file's rows for an evaluation.</summary>
    /// <param name="path">The file.</param>
    /// <param name="limit">Take only so many rows, the first ones; null for all.</param>
    /// <exception cref="EngineDataException">The file or a row of it is wrong, or a row does not fit the model.</exception>
    public IReadOnlyList<EvaluationRow> EvaluationRows(string path, int? limit = null) =>
        [.. Read(path).Rows.Take(limit ?? int.MaxValue).Select(row => EvaluationRow.From(row, Builder))];
}

using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// What a decoder is made of, read from a Hugging Face <c>config.json</c>: one record for all architectures, so that
/// the model is built from properties and never asks for its family's name except to find tensor names.
/// Sizes are counts of elements.
/// </summary>
public sealed partial record ModelConfig
{
    /// <summary>The architecture.</summary>
    public required ModelFamily Family { get; init; }

    /// <summary>Rows of the token embedding; token ids lie in [0, VocabularySize).</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key and value heads; divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Width of one head; even when positions are rotary. Need not be HiddenSize / HeadCount.</summary>
    public required int HeadDim { get; init; }

    /// <summary>Width inside the MLP.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Longest sequence the model was made for; with learned positions, the rows of their table.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>The normalisation.</summary>
    public NormKind Norm { get; init; } = NormKind.RmsNorm;

    /// <summary>The ε inside the normalisation's square root.</summary>
    public double NormEps { get; init; } = 1e-6;

    /// <summary>The MLP's nonlinearity.</summary>
    public ActivationKind Activation { get; init; } = ActivationKind.Silu;

    /// <summary>True: down(act(gate(x)) · up(x)). False: down(act(up(x))).</summary>
    public bool GatedMlp { get; init; } = true;

    /// <summary>How positions enter.</summary>
    public PositionKind Positions { get; init; } = PositionKind.Rope;

    /// <summary>RoPE's base: frequency i is theta^(−2i/HeadDim) before scaling.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>RoPE's scaling, or null.</summary>
    public RopeScaling? RopeScaling { get; init; }

    /// <summary>
    /// Per layer, the number of latest keys a query attends to, itself included (key j is seen by query i when
    /// i − window &lt; j ≤ i); 0 for full attention. Empty when every layer has full attention.
    /// </summary>
    public IReadOnlyList<int> LayerWindows { get; init; } = [];

    /// <summary>True when the q projection has a bias.</summary>
    public bool QueryBias { get; init; }

    /// <summary>True when the k projection has a bias.</summary>
    public bool KeyBias { get; init; }

    /// <summary>True when the v projection has a bias.</summary>
    public bool ValueBias { get; init; }

    /// <summary>True when attention's output projection has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>True when the MLP's projections have biases.</summary>
    public bool MlpBias { get; init; }

    /// <summary>True when q and k are RMS-normalised per head before RoPE.</summary>
    public bool QkNorm { get; init; }

    /// <summary>True when the head uses the token embedding's weight.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>False when attention scores are not divided by √HeadDim (GPT-2's <c>scale_attn_weights: false</c>).</summary>
    public bool ScaleAttention { get; init; } = true;

    /// <summary>Id that starts a sequence. As found: it may lie outside the vocabulary, as in many small test models.</summary>
    public int? BosTokenId { get; init; }

    /// <summary>Ids that end a sequence; may be empty. As found, like <see cref="BosTokenId"/>.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>Id that pads a batch; null also when the file says −1.</summary>
    public int? PadTokenId { get; init; }

    /// <summary>The dtype the weights were saved in, if the file says so.</summary>
    public DType? StorageDType { get; init; }

    /// <summary>Dropout on attention probabilities in the base model's own training; for a trainer to honour.</summary>
    public double AttentionDropout { get; init; }

    /// <summary>Dropout on the embedding's output; GPT-2 only.</summary>
    public double EmbeddingDropout { get; init; }

    /// <summary>Dropout on each branch before it joins the residual stream; GPT-2 only.</summary>
    public double ResidualDropout { get; init; }

    /// <summary>The file this was read from, without a byte order mark; empty when built in memory.</summary>
    public ReadOnlyMemory<byte> OriginalJson { get; init; }

    /// <summary>The factor on q·k: 1/√HeadDim, or 1.</summary>
    public double AttentionScale => ScaleAttention ? 1 / Math.Sqrt(HeadDim) : 1;

    /// <summary>The window of one layer as in <see cref="LayerWindows"/>; 0 for full attention.</summary>
    public int WindowOf(int layer) => LayerWindows.Count == 0 ? 0 : LayerWindows[layer];

    /// <summary>Reads <c>config.json</c> from a model directory.</summary>
    /// <exception cref="EngineDataException">The directory or the file is missing, or a field is wrong or not supported.</exception>
    public static ModelConfig Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ModelDirectory.RequireConfig(directory);
        return ModelConfigParser.Parse(JsonFields.Load(Path.Combine(directory, "config.json")));
    }

    /// <summary>Reads a <c>config.json</c> that is already in memory.</summary>
    /// <param name="utf8">The document.</param>
    /// <param name="file">What messages call it.</param>
    /// <exception cref="EngineDataException">A field is missing, wrong or not supported.</exception>
    public static ModelConfig Parse(ReadOnlyMemory<byte> utf8, string file = "config.json") =>
        ModelConfigParser.Parse(JsonFields.Parse(utf8, file));
}

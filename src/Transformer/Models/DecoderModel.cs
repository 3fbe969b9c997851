using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// A causal decoder built from a <see cref="ModelConfig"/>: token embedding (and learned positions), layers, final norm,
/// output head. It knows nothing of adapters: whoever adapts it sets <see cref="LinearModule.Adapter"/>.
/// </summary>
public sealed partial class DecoderModel : IDisposable
{
    private readonly DecoderBlock[] _blocks;
    private readonly RotaryTable? _rotary;

    private DecoderModel(
        ModelConfig config,
        DType dtype,
        Device device,
        EmbeddingModule tokens,
        EmbeddingModule? positions,
        DecoderBlock[] blocks,
        NormModule finalNorm,
        LinearModule head,
        RotaryTable? rotary,
        IReadOnlyDictionary<string, Variable> parameters)
    {
        Config = config;
        DType = dtype;
        Device = device;
        TokenEmbedding = tokens;
        PositionEmbedding = positions;
        _blocks = blocks;
        FinalNorm = finalNorm;
        Head = head;
        _rotary = rotary;
        Parameters = parameters;
        Stacks = [.. blocks.SelectMany(static b => b.Stacks)];
        Linears = [.. Stacks.SelectMany(static s => s.Linears), head];
        Norms = [.. blocks.SelectMany(b => new[] { b.AttentionNorm, b.MlpNorm, b.Attention.QueryNorm, b.Attention.KeyNorm })
            .OfType<NormModule>(), finalNorm];
        Embeddings = positions is null ? [tokens] : [tokens, positions];
    }

    /// <summary>The architecture.</summary>
    public ModelConfig Config { get; }

    /// <summary>Dtype of parameters and activations.</summary>
    public DType DType { get; }

    /// <summary>Where the parameters are.</summary>
    public Device Device { get; }

    /// <summary>All parameters by their names in the checkpoint; a tied head appears under the embedding's name only.</summary>
    public IReadOnlyDictionary<string, Variable> Parameters { get; }

    /// <summary>All linears in order of the layers, the output head last.</summary>
    public IReadOnlyList<LinearModule> Linears { get; }

    /// <summary>The linears of the layers by the inputs they share.</summary>
    public IReadOnlyList<LinearStack> Stacks { get; }

    /// <summary>
    /// Called at the beginning of each pass, but not for further tokens of a sequence in a cache: whoever adapts the model puts
    /// its parameters where the kernels read them.
    /// </summary>
    public Action? Prepare { get; set; }

    /// <summary>All norms.</summary>
    public IReadOnlyList<NormModule> Norms { get; }

    /// <summary>The embedding tables.</summary>
    public IReadOnlyList<EmbeddingModule> Embeddings { get; }

    /// <summary>The token embedding.</summary>
    public EmbeddingModule TokenEmbedding { get; }

    /// <summary>Learned positions, or null for rotary models.</summary>
    public EmbeddingModule? PositionEmbedding { get; }

    /// <summary>The norm before the head.</summary>
    public NormModule FinalNorm { get; }

    /// <summary>The output head; its weight is the token embedding's variable when tied.</summary>
    public LinearModule Head { get; }

    /// <summary>The attention windows of the layers, each once; 0 stands for none.</summary>
    internal IEnumerable<int> Windows => _blocks.Select(b => b.Attention.Window).Distinct();

    /// <summary>Number of parameters; tied ones count once.</summary>
    public long ParameterCount => Parameters.Values.Sum(p => p.Value.Elements);

    /// <summary>
    /// The hidden states after the final norm, [batch·length, hidden].
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="batch">The batch's extent, positions and cache.</param>
    /// <param name="ids">Token ids, batch·length of them, each in [0, vocabulary).</param>
    /// <exception cref="EngineDataException">An id is out of range or a position is beyond the model.</exception>
    public Variable Hidden(Tape tape, BatchContext batch, ReadOnlySpan<int> ids)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        CheckIds(ids);
        using Tensor idTensor = Tensor.From(ids, [ids.Length], Device);
        return Hidden(tape, batch, idTensor);
    }

    /// <summary>The same for ids in device memory, I32 [batch·length], which the caller has checked.</summary>
    public Variable Hidden(Tape tape, BatchContext batch, Tensor ids)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        if (batch.PositionLimit > Config.MaxPositions)
        {
            throw new EngineDataException(
                $"sequence of {batch.PositionLimit} tokens is longer than the model: max_position_embeddings is {Config.MaxPositions}");
        }

        _rotary?.Reserve(batch.PositionLimit);
        if (batch.Cache is not { Length: > 0 })
        {
            Prepare?.Invoke();
        }

        using var stream = ResidualStream.From(Embed(tape, batch, ids));
        foreach (DecoderBlock block in _blocks)
        {
            if (batch.CheckpointBlocks && tape.IsRecording)
            {
                // A block is a function of one tensor: its input is all that is kept.
                using Variable input = stream.Take(tape);
                stream.Put(tape.Checkpoint(input, (inner, h) => block.Forward(inner, batch, h)));
            }
            else
            {
                block.Forward(tape, batch, stream);
            }
        }

        if (batch.CachePosition is null)
        {
            batch.Cache?.Advance(batch.Length);
        }

        return stream.Norm(tape, FinalNorm);
    }

    /// <summary>Logits of hidden states: [R, hidden] → [R, vocabulary].</summary>
    public Variable Logits(Tape tape, BatchContext batch, Variable hidden)
    {
        using Device.RangeScope range = Device.Range("head");
        return Head.Forward(tape, batch, hidden);
    }

    /// <summary>Frees all parameters.</summary>
    public void Dispose()
    {
        foreach (Variable parameter in Parameters.Values)
        {
            parameter.Dispose();
        }

        _rotary?.Dispose();
    }

    private Variable Embed(Tape tape, BatchContext batch, Tensor ids)
    {
        using Device.RangeScope range = Device.Range("embedding");
        Variable x = tape.Embedding(ids, TokenEmbedding.Weight);
        if (PositionEmbedding is null)
        {
            return x;
        }

        using (x)
        using (Tensor flat = batch.Positions.Reshape(-1))
        using (Variable p = tape.Embedding(flat, PositionEmbedding.Weight))
        {
            return tape.Add(x, p);
        }
    }

    internal void CheckIds(ReadOnlySpan<int> ids)
    {
        for (int i = 0; i < ids.Length; i++)
        {
            if ((uint)ids[i] >= (uint)Config.VocabularySize)
            {
                throw new EngineDataException(
                    $"token id {ids[i]} at index {i} is out of range: the model's vocabulary has {Config.VocabularySize} entries (0 to {Config.VocabularySize - 1})");
            }
        }
    }
}

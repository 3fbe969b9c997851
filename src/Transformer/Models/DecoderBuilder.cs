using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>Builds a <see cref="DecoderModel"/> part by part from a configuration and a source of parameters.</summary>
internal sealed class DecoderBuilder(ModelConfig config, IParameterSource source, DType dtype, Device device)
{
    private readonly ParameterNames _names = ParameterNames.For(config);
    private readonly Dictionary<string, Variable> _parameters = new(StringComparer.Ordinal);
    private readonly bool _transposed = config.Family == ModelFamily.Gpt2;

    private readonly RotaryTable? _rotary = config.Positions == PositionKind.Rope
        ? new RotaryTable(config.HeadDim, config.RopeTheta, config.RopeScaling, device)
        : null;

    public IReadOnlyDictionary<string, Variable> Parameters => _parameters;

    public RotaryTable? Rotary => _rotary;

    public EmbeddingModule Tokens() => Embedding(_names.Tokens, config.VocabularySize);

    public EmbeddingModule? Positions() =>
        config.Positions == PositionKind.Learned ? Embedding(_names.Positions!, config.MaxPositions) : null;

    public NormModule FinalNorm() => Norm(_names.FinalNorm, config.HiddenSize);

    public LinearModule Head(EmbeddingModule tokens) => new(
        ParameterNames.Head,
        config.TieWordEmbeddings ? tokens.Weight : Parameter($"{ParameterNames.Head}.weight", [config.VocabularySize, config.HiddenSize]),
        bias: null);

    public DecoderBlock Block(int layer)
    {
        int queryWidth = config.HeadCount * config.HeadDim;
        int keyWidth = config.KeyValueHeadCount * config.HeadDim;
        string[] paths = _names.Projections(layer);
        LinearModule[] projections = paths.Length == 1
            ? [Linear(paths[0], config.HiddenSize, queryWidth + (2 * keyWidth), config.QueryBias)]
            :
            [
                Linear(paths[0], config.HiddenSize, queryWidth, config.QueryBias),
                Linear(paths[1], config.HiddenSize, keyWidth, config.KeyBias),
                Linear(paths[2], config.HiddenSize, keyWidth, config.ValueBias),
            ];
        return new DecoderBlock
        {
            Name = $"layer {layer}",
            AttentionNorm = Norm(_names.AttentionNorm(layer), config.HiddenSize),
            Attention = new AttentionBlock
            {
                Layer = layer,
                Heads = config.HeadCount,
                KeyValueHeads = config.KeyValueHeadCount,
                HeadDim = config.HeadDim,
                Window = config.WindowOf(layer),
                Scale = (float)config.AttentionScale,
                Projections = new LinearStack(projections),
                Output = new LinearStack(Linear(_names.AttentionOutput(layer), queryWidth, config.HiddenSize, config.OutputBias)),
                QueryNorm = config.QkNorm ? Norm(_names.QueryNorm(layer), config.HeadDim) : null,
                KeyNorm = config.QkNorm ? Norm(_names.KeyNorm(layer), config.HeadDim) : null,
                Rotary = _rotary,
            },
            MlpNorm = Norm(_names.MlpNorm(layer), config.HiddenSize),
            Mlp = new MlpBlock
            {
                Activation = config.Activation,
                Inputs = new LinearStack([.. MlpInputs(layer).Select(path => Linear(path, config.HiddenSize, config.IntermediateSize, config.MlpBias))]),
                Down = new LinearStack(Linear(_names.Down(layer), config.IntermediateSize, config.HiddenSize, config.MlpBias)),
            },
        };
    }

    private IEnumerable<string> MlpInputs(int layer) => config.GatedMlp ? [_names.Gate(layer), _names.Up(layer)] : [_names.Up(layer)];

    private EmbeddingModule Embedding(string path, int rows) => new(path, Parameter($"{path}.weight", [rows, config.HiddenSize]));

    private NormModule Norm(string path, int width) => new(
        path,
        config.Norm,
        Parameter($"{path}.weight", [width]),
        config.Norm == NormKind.LayerNorm ? Parameter($"{path}.bias", [width]) : null,
        (float)config.NormEps);

    private LinearModule Linear(string path, int inputs, int outputs, bool bias) => new(
        path,
        Parameter($"{path}.weight", _transposed ? [inputs, outputs] : [outputs, inputs]),
        bias ? Parameter($"{path}.bias", [outputs]) : null,
        _transposed);

    private Variable Parameter(string name, Shape shape)
    {
        var parameter = new Variable(source.Get(name, shape, dtype, device), name: name);
        _parameters.Add(name, parameter);
        return parameter;
    }
}

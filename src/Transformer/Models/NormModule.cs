using Engine.Autograd;

namespace Engine.Transformer;

/// <summary>LayerNorm or RMSNorm with its parameters.</summary>
public sealed class NormModule(string path, NormKind kind, Variable weight, Variable? bias, float epsilon)
{
    /// <summary>The module's path, such as <c>model.norm</c>.</summary>
    public string Path { get; } = path;

    /// <summary>Which norm.</summary>
    public NormKind Kind { get; } = kind;

    /// <summary>Scale [C].</summary>
    public Variable Weight { get; set; } = weight;

    /// <summary>Shift [C]; LayerNorm only.</summary>
    public Variable? Bias { get; set; } = bias;

    /// <summary>Normalises each row of x [R,C]; the result's rows are followed by a border of scratch where one is asked for.</summary>
    public Variable Forward(Tape tape, Variable x, int border = 0) => Kind == NormKind.RmsNorm
        ? tape.RmsNorm(x, Weight, epsilon, border)
        : tape.LayerNorm(x, Weight, Bias, epsilon, border);

    /// <summary>x + branch [R,C] and its rows normalised, with the bits of an addition and <see cref="Forward"/>.</summary>
    public (Variable Sum, Variable Normed) ForwardOfSum(Tape tape, Variable x, Variable branch, int border = 0) => Kind == NormKind.RmsNorm
        ? tape.AddRmsNorm(x, branch, Weight, epsilon, border)
        : tape.AddLayerNorm(x, branch, Weight, Bias, epsilon, border);
}

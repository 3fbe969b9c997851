namespace Engine.Kernels;

/// <summary>How the next token is chosen; the names and meanings are those of transformers' GenerationConfig.</summary>
/// <param name="Temperature">Divides the scores; 0 chooses the best token (greedy).</param>
/// <param name="TopK">Keeps the tokens whose score reaches the k-th best one's; 0 keeps all.</param>
/// <param name="TopP">Keeps the smallest set of best tokens with at least this probability together; 1 keeps all.</param>
/// <param name="RepetitionPenalty">
/// Scores of tokens seen before are divided by it when positive and multiplied when negative (Keskar et al., CTRL, 2019); 1 changes nothing.
/// </param>
public readonly record struct SamplingOptions(
    double Temperature = 1, int TopK = 0, double TopP = 1, double RepetitionPenalty = 1)
{
    /// <summary>Temperature 1, all tokens, no penalty. (The default value of the struct is not valid.)</summary>
    public SamplingOptions()
        : this(1)
    {
    }

    /// <summary>The best token, without a penalty.</summary>
    public static SamplingOptions Greedy { get; } = new(Temperature: 0);

    /// <summary>Checks the ranges.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A value is out of its range; the message names it and the range.</exception>
    public void Validate()
    {
        Require(Temperature >= 0 && double.IsFinite(Temperature), nameof(Temperature), Temperature, "at least 0");
        Require(TopK >= 0, nameof(TopK), TopK, "at least 0");
        Require(TopP is >= 0 and <= 1, nameof(TopP), TopP, "from 0 to 1");
        Require(RepetitionPenalty > 0 && double.IsFinite(RepetitionPenalty), nameof(RepetitionPenalty), RepetitionPenalty, "above 0");
    }

    private static void Require(bool valid, string name, double value, string range)
    {
        if (!valid)
        {
            throw new ArgumentOutOfRangeException(name, value, $"has to be {range}");
        }
    }
}

using Engine.Lora.Data;

namespace Engine.Lora;

/// <summary>A row to evaluate: tokens with labels for the loss, and what a generation is compared with.</summary>
/// <param name="Example">Tokens and labels.</param>
/// <param name="Prompt">The tokens before the first completion; empty where the row has no such part.</param>
/// <param name="ReferenceIds">The tokens of the first completion, an end token included.</param>
/// <param name="Reference">The first completion's text; null for a row of token ids.</param>
public sealed record EvaluationRow(Example Example, IReadOnlyList<int> Prompt, IReadOnlyList<int> ReferenceIds, string? Reference)
{
    /// <summary>True when a completion can be generated and compared: the row has a prompt.</summary>
    public bool HasCompletion => Prompt.Count > 0;

    /// <summary>Prepares every row of a data set.</summary>
    /// <inheritdoc cref="ExampleBuilder.Build(DataRow)" path="/exception"/>
    public static IReadOnlyList<EvaluationRow> From(DataSet data, ExampleBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(data);
        return [.. data.Rows.Select(row => From(row, builder))];
    }

    /// <summary>Prepares one row.</summary>
    /// <inheritdoc cref="ExampleBuilder.Build(DataRow)" path="/exception"/>
    public static EvaluationRow From(DataRow row, ExampleBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(builder);
        Example example = builder.Build(row);
        bool given = row.InputIds is null ? row.PromptSegments.Any() : row.Labels is [Example.IgnoredLabel, ..];
        if (!given || builder.Prompt(row).Length == 0)
        {
            return new EvaluationRow(example, [], [], null);
        }

        int start = Array.FindIndex(example.Labels, label => label != Example.IgnoredLabel);
        int end = start;
        while (end < example.Length && example.Labels[end] != Example.IgnoredLabel)
        {
            end++;
        }

        string? reference = row.InputIds is not null ? null : string.Concat(row.Segments
            .SkipWhile(segment => !segment.IsCompletion).TakeWhile(segment => segment.IsCompletion).Select(segment => segment.Text));
        return new EvaluationRow(example, example.Tokens[..start], example.Tokens[start..end], reference);
    }
}

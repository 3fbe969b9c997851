namespace Engine.Cli.Demo;

/// <summary>One short document of the base corpus.</summary>
/// <param name="Prompt">What is given: schema, question and tag, or an exercise's material.</param>
/// <param name="Completion">What follows from it. A trainer may weigh these tokens alone, or both parts.</param>
internal readonly record struct BaseDocument(string Prompt, string Completion)
{
    /// <summary>The document's text; the trainer ends it with its end-of-text token.</summary>
    public string Text => Prompt + Completion;
}

/// <summary>
/// The endless text the small base model is trained on. Document <c>i</c> depends on the seed and on <c>i</c> alone, so
/// training can take any range, in any order and on any number of threads, and resume exactly. README.md, beside this
/// file, says what the text holds and why.
/// </summary>
internal static class BaseCorpus
{
    /// <summary>The pre-tokenizer's pattern the text was laid out for: words, pairs of digits, quotes, the rest.</summary>
    /// <remarks>
    /// A word has the same tokens whatever stands before or behind it (space, quotation mark, bracket), which makes
    /// copying a matter of single tokens; quotation marks are tokens by themselves, so an operator is the same before
    /// text and before a number; so is a line break, so a prompt and its completion can be tokenised apart. For tokenizer.json: a <c>Split</c> pre-tokenizer with behaviour <c>Isolated</c>.
    /// </remarks>
    public const string PretokenizerPattern = @"\p{L}+|\p{N}{1,2}|[\n'""]|[^\p{L}\p{N}\n'""]+";

    /// <summary>The documents from an index on.</summary>
    /// <param name="seed">The corpus's seed.</param>
    /// <param name="start">Index of the first document.</param>
    /// <param name="count">How many documents.</param>
    public static IEnumerable<BaseDocument> Documents(ulong seed, long start, long count)
    {
        for (long index = start; index < start + count; index++)
        {
            yield return Document(seed, index);
        }
    }

    /// <summary>One document.</summary>
    /// <param name="seed">The corpus's seed.</param>
    /// <param name="index">The document's index, not negative.</param>
    public static BaseDocument Document(ulong seed, long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        var random = new SplitMix(seed, (ulong)index);
        var sampler = new QuestionSampler(random, Pool.Base);
        return random.PickWeighted([20, 14, 66]) switch
        {
            0 => new CopyExercises(random, sampler.Words).Next(),
            1 => Answer(random, sampler, PlanLanguages.Parts),
            _ => Answer(random, sampler, PlanLanguages.Whole),
        };
    }

    private static BaseDocument Answer(SplitMix random, QuestionSampler sampler, IReadOnlyList<PlanLanguage> languages)
    {
        TableQuestion question = sampler.Question(sampler.Table("", rows: 0));
        PlanLanguage language = random.Pick(languages);
        return new(PromptRenderer.Render(question, language.Tag), language.Render(question.Table, question.Query));
    }
}

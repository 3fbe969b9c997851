using System.Diagnostics;
using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Lora;

/// <summary>
/// Mean loss, perplexity and exact match of greedy completions, with whatever adapter is active on the model. The same
/// rows give the same numbers in every run: rows of similar length share a batch, and sums are taken in the rows' own order.
/// </summary>
public sealed class Evaluator
{
    // Logits of labelled tokens may all exist at once (where the head is adapted): at most this many values.
    private const long MaxLogits = 64L << 20;

    private readonly DecoderModel _model;
    private readonly Tokenizer? _tokenizer;

    /// <summary>Evaluates a model; nothing is taken over.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Needed where completions are texts.</param>
    public Evaluator(DecoderModel model, Tokenizer? tokenizer)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        _tokenizer = tokenizer;
    }

    /// <summary>Evaluates rows.</summary>
    /// <param name="rows">At least one.</param>
    /// <param name="options">What to do; null for everything.</param>
    /// <param name="progress">Called after each batch of the loss and after each batch of completions.</param>
    /// <param name="cancellation">Looked at between batches and between generated tokens.</param>
    /// <exception cref="EngineDataException">A row does not fit the model.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public EvaluationResult Evaluate(
        IReadOnlyList<EvaluationRow> rows,
        EvaluationOptions? options = null,
        Action<EvaluationProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentOutOfRangeException.ThrowIfZero(rows.Count, nameof(rows));
        options ??= new EvaluationOptions();
        long start = Stopwatch.GetTimestamp();
        (double sum, long tokens) = SumLosses([.. rows.Select(row => row.Example)], options, progress, cancellation);
        CompletionComparison[]? completions = options.ExactMatch ? Complete(rows, options, progress, cancellation) : null;
        return new EvaluationResult
        {
            Examples = rows.Count,
            Tokens = tokens,
            Loss = sum / tokens,
            Completions = completions,
            Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds,
        };
    }

    private (double Sum, long Tokens) SumLosses(
        Example[] examples, EvaluationOptions options, Action<EvaluationProgress>? progress, CancellationToken cancellation)
    {
        double[] sums = new double[examples.Length];
        long tokens = 0;
        int done = 0;
        int limit = (int)Math.Min(options.BatchTokens, MaxLogits / _model.Config.VocabularySize);
        foreach (int[] batch in Batches(examples.Length, i => examples[i].Length, int.MaxValue, limit))
        {
            cancellation.ThrowIfCancellationRequested();
            tokens += AddLosses(examples, batch, sums);
            done += batch.Length;
            progress?.Invoke(new EvaluationProgress(EvaluationPhase.Loss, done, examples.Length));
        }

        return (sums.Sum(), tokens);
    }

    private int AddLosses(Example[] examples, int[] indices, double[] sums)
    {
        Batch data = Batch.Collate([.. indices.Select(i => examples[i])]);
        using Tape tape = Tape.Inference();
        using BatchContext context = TrainingStep.ContextOf(data, _model.Device);
        using BatchLoss loss = _model.Loss(tape, context, data.Tokens, data.Labels, 1);
        int next = 0;
        for (int r = 0; r < indices.Length; r++)
        {
            int count = DecoderModel.CountLabels(data.Length, data.Labels.AsSpan(r * data.Length, data.Length));
            sums[indices[r]] = loss.Losses.AsSpan(next, count).ToArray().Sum();
            next += count;
        }

        return loss.Count;
    }

    private CompletionComparison[] Complete(
        IReadOnlyList<EvaluationRow> rows, EvaluationOptions options, Action<EvaluationProgress>? progress, CancellationToken cancellation)
    {
        int[] eligible = [.. Enumerable.Range(0, rows.Count).Where(i => rows[i].HasCompletion)];
        var generation = new GenerationOptions { StopTokenIds = options.StopTokenIds ?? DefaultStops() };
        var generator = new Generator(_model, _tokenizer);
        var comparisons = new CompletionComparison[eligible.Length];
        int done = 0;
        foreach (int[] batch in Batches(eligible.Length, i => rows[eligible[i]].Prompt.Count, options.GenerationRows, int.MaxValue))
        {
            GenerationRequest[] requests = [.. batch.Select(i => new GenerationRequest(rows[eligible[i]].Prompt)
            {
                MaxNewTokens = Limit(rows[eligible[i]], generation.StopTokenIds, options.ExtraTokens),
            })];
            IReadOnlyList<GenerationResult> results = generator.Generate(requests, generation, null, cancellation);
            for (int i = 0; i < batch.Length; i++)
            {
                comparisons[batch[i]] = Compare(eligible[batch[i]], rows[eligible[batch[i]]], results[i], generation.StopTokenIds);
            }

            done += batch.Length;
            progress?.Invoke(new EvaluationProgress(EvaluationPhase.Generation, done, eligible.Length));
        }

        return comparisons;
    }

    // A reference without an end is met when as many tokens say the same; one with an end leaves room for another cut into tokens.
    private static int Limit(EvaluationRow row, IReadOnlyList<int> stops, int extra) =>
        row.ReferenceIds.Count + (stops.Contains(row.ReferenceIds[^1]) ? extra : 0);

    private CompletionComparison Compare(int index, EvaluationRow row, GenerationResult result, IReadOnlyList<int> stops)
    {
        if (row.Reference is null)
        {
            string ids = string.Join(' ', WithoutStop(result.Ids, stops));
            string wanted = string.Join(' ', WithoutStop(row.ReferenceIds, stops));
            return new CompletionComparison(index, ids, wanted, ids == wanted);
        }

        string text = result.Text ?? throw new InvalidOperationException("rows of text are compared as text, and the evaluator has no tokenizer");
        return new CompletionComparison(index, text, row.Reference, text.AsSpan().TrimEnd().SequenceEqual(WithoutSpecial(row).AsSpan().TrimEnd()));
    }

    // The reference's text without the special tokens at its end (those that close a turn of a conversation): generated text
    // never shows special tokens.
    private string WithoutSpecial(EvaluationRow row)
    {
        string text = row.Reference!;
        for (int i = row.ReferenceIds.Count - 1; i >= 0 && _tokenizer!.IsSpecial(row.ReferenceIds[i]); i--)
        {
            if (_tokenizer.IdToToken(row.ReferenceIds[i]) is { } token && text.EndsWith(token, StringComparison.Ordinal))
            {
                text = text[..^token.Length];
            }
        }

        return text;
    }

    private static IEnumerable<int> WithoutStop(IReadOnlyList<int> ids, IReadOnlyList<int> stops) =>
        ids.Count > 0 && stops.Contains(ids[^1]) ? ids.Take(ids.Count - 1) : ids;

    private IReadOnlyList<int> DefaultStops() => _tokenizer?.SpecialTokens.EndOfSequence is { } end
        ? [.. _model.Config.EosTokenIds.Append(end).Distinct()]
        : _model.Config.EosTokenIds;

    // Indices of items in batches, shortest first, equal lengths in their own order; a batch has at most so many items and
    // so many tokens once padded, or one item.
    private static IEnumerable<int[]> Batches(int count, Func<int, int> length, int maxItems, int maxTokens)
    {
        int[] order = [.. Enumerable.Range(0, count).OrderBy(length)];
        for (int start = 0; start < count;)
        {
            int end = start + 1;
            while (end < count && end - start < maxItems && (long)(end - start + 1) * length(order[end]) <= maxTokens)
            {
                end++;
            }

            yield return order[start..end];
            start = end;
        }
    }
}

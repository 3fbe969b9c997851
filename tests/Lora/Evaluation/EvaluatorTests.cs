using System.Text.Json;
using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Lora.Tests;

public sealed class EvaluatorTests : IDisposable
{
    private const int Vocabulary = 71;
    private static readonly Tokenizer Letters = LetterTokenizer.Create();

    private static readonly ModelConfig Config = new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = Vocabulary,
        HiddenSize = 16,
        LayerCount = 2,
        HeadCount = 2,
        KeyValueHeadCount = 1,
        HeadDim = 8,
        IntermediateSize = 24,
        MaxPositions = 64,
        EosTokenIds = [LetterTokenizer.End],
    };

    private static readonly DType s_precision = TestDevice.IsCuda ? DType.F32 : DType.F64;

    // Sums of some hundred terms of size 10 at most, each within a unit roundoff of its value times the few hundred
    // operations behind it: in float32 300·2⁻²⁴·10.
    private static readonly double s_tolerance = s_precision == DType.F64 ? 1e-11 : 2e-4;

    private readonly DecoderModel _model = DecoderModel.Build(Config, new RandomParameters(5, 2, 0.4), s_precision, TestDevice.Current);

    public void Dispose() => _model.Dispose();

    private static readonly ExampleBuilder Builder = new(
        new ExampleOptions { VocabularySize = Vocabulary, MaxLength = 64 }, new Encoder());

    private static DataRow Text(string prompt, string completion) => new()
    {
        Source = "test:1",
        Segments = [new TextSegment(prompt, false), new TextSegment(completion, true)],
    };

    private static DataRow Tokens(int[] ids, int prompt) => new()
    {
        Source = "test:1",
        InputIds = ids,
        Labels = [.. ids.Select((id, i) => i < prompt ? Example.IgnoredLabel : id)],
    };

    private static DataRow[] Rows() =>
    [
        Text("one", "two"), Text("a longer prompt", "x"), Text("b", "a longer completion, that is."),
        Tokens([1, 2, 3, 4, 5], 2), Tokens([9, 8, 7], 1),
        new DataRow { Source = "test:6", Segments = [new TextSegment("all of it is learned", true)] },
    ];

    private static EvaluationRow[] Prepared(IEnumerable<DataRow> rows) => [.. rows.Select(row => EvaluationRow.From(row, Builder))];

    private EvaluationResult Loss(IReadOnlyList<EvaluationRow> rows, int batchTokens = 4096) =>
        new Evaluator(_model, Letters).Evaluate(rows, new EvaluationOptions { ExactMatch = false, BatchTokens = batchTokens });

    // −log softmax(logits)[label] from the logits of the row alone.
    private (double Sum, int Count) Reference(Example example)
    {
        using Tape tape = Tape.Inference();
        using BatchContext batch = BatchContext.Dense(TestDevice.Current, 1, example.Length);
        using Variable hidden = _model.Hidden(tape, batch, example.Tokens);
        using Variable logits = _model.Logits(tape, batch, hidden);
        double[] values = logits.Value.ToDoubles();
        double sum = 0;
        int count = 0;
        for (int t = 1; t < example.Length; t++)
        {
            if (example.Labels[t] != Example.IgnoredLabel)
            {
                double[] row = values[((t - 1) * Vocabulary)..(t * Vocabulary)];
                double max = row.Max();
                sum += max + Math.Log(row.Sum(v => Math.Exp(v - max))) - row[example.Labels[t]];
                count++;
            }
        }

        return (sum, count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    [InlineData(4096)]
    public void The_loss_is_the_mean_over_labelled_tokens(int batchTokens)
    {
        EvaluationRow[] rows = Prepared(Rows());
        (double Sum, int Count)[] each = [.. rows.Select(r => Reference(r.Example))];
        EvaluationResult result = Loss(rows, batchTokens);
        Assert.Equal(rows.Length, result.Examples);
        Assert.Equal(each.Sum(e => e.Count), result.Tokens);

        double expected = each.Sum(e => e.Sum) / each.Sum(e => e.Count);
        Assert.Equal(expected, result.Loss, s_tolerance);
        Assert.Equal(Math.Exp(expected), result.Perplexity, s_tolerance * Math.Exp(expected) * 10);
        Assert.Null(result.ExactMatch);
    }

    [Fact]
    public void Packed_examples_have_the_loss_of_separate_ones()
    {
        EvaluationRow[] rows = Prepared(Rows());
        Example[] parts = [rows[0].Example, rows[3].Example, rows[1].Example];
        int[] starts = [.. parts.SelectMany((p, i) => Enumerable.Repeat(parts.Take(i).Sum(q => q.Length), p.Length))];
        var packed = new Example([.. parts.SelectMany(p => p.Tokens)], [.. parts.SelectMany(p => p.Labels)]) { SegmentStarts = starts };
        EvaluationResult together = Loss([new EvaluationRow(packed, [], [], null), rows[2]]);
        EvaluationResult separate = Loss([rows[0], rows[1], rows[2], rows[3]]);
        Assert.Equal(separate.Tokens, together.Tokens);
        Assert.Equal(separate.Loss, together.Loss, s_tolerance);
    }

    [Fact]
    public void Completions_that_the_model_writes_itself_match()
    {
        int[] prompt = Letters.Encode("say it");
        GenerationResult own = new Generator(_model, Letters).Generate(prompt, new GenerationOptions { MaxNewTokens = 9 });
        Assert.Equal(own.Ids, Letters.Encode(own.Text!));

        // References without an end token: the model need not write one, and is asked for as many tokens as they have.
        var open = new ExampleBuilder(new ExampleOptions { VocabularySize = Vocabulary, MaxLength = 64, AppendEos = false }, new Encoder());
        EvaluationRow text = EvaluationRow.From(Text("say it", own.Text!), open);
        int[] wrong = [.. own.Ids.Take(8), (own.Ids[8] + 1) % 70];
        EvaluationRow[] rows =
        [
            text,
            EvaluationRow.From(Text("say it", Letters.Decode(wrong)), open),
            EvaluationRow.From(new DataRow { Source = "test:3", Segments = [new TextSegment("no prompt", true)] }, open),
            EvaluationRow.From(Text("say it", own.Text![..^2]), open),
            text with { Reference = own.Text + " \n" },
            EvaluationRow.From(Tokens([.. prompt, .. own.Ids], prompt.Length), open),
            EvaluationRow.From(Tokens([.. prompt, .. wrong], prompt.Length), open),
        ];
        EvaluationResult result = new Evaluator(_model, Letters).Evaluate(rows);
        Assert.Equal([0, 1, 3, 4, 5, 6], result.Completions!.Select(c => c.Row));
        Assert.Equal([true, false, true, true, true, false], result.Completions!.Select(c => c.Matches));
        Assert.Equal(4 / 6.0, result.ExactMatch);
        Assert.Equal(own.Text, result.Completions![0].Generated);
        Assert.Equal(string.Join(' ', own.Ids), result.Completions[4].Generated);
        EvaluationResult single = new Evaluator(_model, Letters).Evaluate(rows, new EvaluationOptions { GenerationRows = 1 });
        Assert.Equal(result.Completions, single.Completions);
    }

    [Fact]
    public void A_completion_has_to_end_where_its_reference_ends()
    {
        int[] prompt = Letters.Encode("say it");
        int[] own = [.. new Generator(_model).Generate(prompt, new GenerationOptions { MaxNewTokens = 12 }).Ids];
        int end = EndOf(own);

        // With own[end] as end token, the model ends after as many tokens; the second reference ends one token earlier.
        EvaluationRow[] rows = Prepared(
            [Tokens([.. prompt, .. own[..(end + 1)]], prompt.Length), Tokens([.. prompt, .. own[..(end - 1)], own[end]], prompt.Length)]);
        var options = new EvaluationOptions { StopTokenIds = [own[end]] };
        EvaluationResult result = new Evaluator(_model, Letters).Evaluate(rows, options);
        Assert.Equal([true, false], result.Completions!.Select(c => c.Matches));
        Assert.Equal(0.5, result.ExactMatch);
    }

    [Fact]
    public void Special_tokens_at_the_references_end_are_not_text()
    {
        int[] prompt = Letters.Encode("say it");
        int[] own = [.. new Generator(_model).Generate(prompt, new GenerationOptions { MaxNewTokens = 12 }).Ids];
        int end = EndOf(own);
        string text = Letters.Decode(own.AsSpan(0, end));
        EvaluationRow row = EvaluationRow.From(Text("say it", text + "</s>"), Builder);

        // A completion that brings its own end gets no second one.
        Assert.Equal([.. own[..end], LetterTokenizer.End], row.ReferenceIds);
        var options = new EvaluationOptions { StopTokenIds = [own[end]] };
        EvaluationResult result = new Evaluator(_model, Letters).Evaluate([row], options);
        Assert.Equal(text, result.Completions![0].Generated);
        Assert.True(result.Completions[0].Matches);
    }

    [Fact]
    public void Progress_counts_rows_and_cancelling_ends_it()
    {
        EvaluationRow[] rows = Prepared(Rows());
        var seen = new List<EvaluationProgress>();
        var options = new EvaluationOptions { BatchTokens = 1, GenerationRows = 2 };
        new Evaluator(_model, Letters).Evaluate(rows, options, seen.Add);
        Assert.Equal([1, 2, 3, 4, 5, 6], seen.Where(p => p.Phase == EvaluationPhase.Loss).Select(p => p.Done));
        Assert.Equal([2, 4, 5], seen.Where(p => p.Phase == EvaluationPhase.Generation).Select(p => p.Done));
        using var source = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(
            () => new Evaluator(_model, Letters).Evaluate(rows, options, _ => source.Cancel(), source.Token));
    }

    [Fact]
    public void The_result_is_written_as_json()
    {
        var result = new EvaluationResult
        {
            Examples = 3,
            Tokens = 10,
            Loss = 0.5,
            Completions = [new(0, "a", "a", true), new(2, "b", "c", false)],
        };
        using JsonDocument json = Write(result);
        Assert.Equal(0.5, json.RootElement.GetProperty("loss").GetDouble());
        Assert.Equal(Math.Exp(0.5), json.RootElement.GetProperty("perplexity").GetDouble());
        Assert.Equal(0.5, json.RootElement.GetProperty("exact_match").GetDouble());
        Assert.Equal(1, json.RootElement.GetProperty("exact_matches").GetInt32());
        Assert.Equal(2, json.RootElement.GetProperty("completions").GetInt32());
        using JsonDocument infinite = Write(result with { Loss = double.PositiveInfinity, Completions = null });
        Assert.Equal(JsonValueKind.Null, infinite.RootElement.GetProperty("loss").ValueKind);
        Assert.False(infinite.RootElement.TryGetProperty("exact_match", out _));
    }

    // The first place from 2 on whose token has not occurred before.
    private static int EndOf(int[] ids)
    {
        int end = Enumerable.Range(2, ids.Length - 2).First(i => !ids.AsSpan(0, i).Contains(ids[i]));
        Assert.All(ids[..end], id => Assert.InRange(id, 0, LetterTokenizer.FirstByte - 1));
        return end;
    }

    private static JsonDocument Write(EvaluationResult result)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            result.WriteJson(writer);
        }

        return JsonDocument.Parse(stream.ToArray());
    }

    private sealed class Encoder : ITokenEncoder
    {
        public int? BosId => null;

        public int? EosId => LetterTokenizer.End;

        public int[] Encode(string text, bool addSpecial) => Letters.Encode(text, addSpecial);
    }
}

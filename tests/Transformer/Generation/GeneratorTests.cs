using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer.Tests.Parity;
using Engine.Transformer.Tokenization;

namespace Engine.Transformer.Tests.Generation;

public sealed class GeneratorTests : IDisposable
{
    private static readonly Tokenizer Letters = LetterTokenizer.Create();
    private static readonly GenerationOptions Sampling = new() { DoSample = true, Temperature = 1.2, TopK = 40, TopP = 0.95, MaxNewTokens = 12, Seed = 9 };

    private readonly DecoderModel _model = Load("llama");

    public void Dispose() => _model.Dispose();

    private static DecoderModel Load(string name) =>
        DecoderModel.Load(Path.Combine(ArchitectureFixture.Root, name), DType.F32, TestDevice.Current);

    private static int[] Prompt(int seed, int length) => [.. Enumerable.Range(0, length).Select(i => ((seed * 17) + (i * i * 5) + (i * 3)) % 70)];

    private static int[][] Ids(IEnumerable<GenerationResult> results) => [.. results.Select(r => r.Ids.ToArray())];

    private int[][] Alone(IEnumerable<GenerationRequest> requests, GenerationOptions options) =>
        [.. requests.Select(r => new Generator(_model).Generate([r], options)[0].Ids.ToArray())];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_rows_tokens_do_not_depend_on_its_batch(bool sample)
    {
        // Limits of their own make the rows end one by one, so that the batch shrinks all the way.
        GenerationRequest[] requests = [.. Enumerable.Range(0, 20).Select(i => new GenerationRequest(Prompt(i, 1 + (i * 7 % 13)))
        {
            MaxNewTokens = 1 + (i * 5 % 12),
            Stream = (ulong)i,
        })];
        GenerationOptions options = Sampling with { DoSample = sample };
        IReadOnlyList<GenerationResult> batch = new Generator(_model).Generate(requests, options);
        Assert.Equal(Alone(requests, options), Ids(batch));
        Assert.Equal(requests.Select(r => r.MaxNewTokens!.Value), batch.Select(r => r.Ids.Count));
        Assert.All(batch, r => Assert.Equal(FinishReason.Length, r.Finish));
    }

    [Fact]
    public void Long_prompts_of_many_rows_go_through_in_portions()
    {
        GenerationRequest[] requests = [.. Enumerable.Range(0, 50).Select(i => new GenerationRequest(Prompt(i, 50 + (i * 11 % 60))))];
        var options = new GenerationOptions { MaxNewTokens = 2 };
        Assert.Equal(Alone(requests, options), Ids(new Generator(_model).Generate(requests, options)));
    }

    [Fact]
    public void Draws_follow_from_seed_and_stream()
    {
        var generator = new Generator(_model);
        GenerationRequest[] requests = [new(Prompt(1, 5)), new(Prompt(1, 5)), new(Prompt(1, 5)) { Stream = 1 }];
        int[][] first = Ids(generator.Generate(requests, Sampling));
        Assert.Equal(first, Ids(generator.Generate(requests, Sampling)));
        Assert.Equal(first[0], first[1]);
        Assert.NotEqual(first[0], first[2]);
        Assert.NotEqual(first[0], generator.Generate(Prompt(1, 5), Sampling with { Seed = 10 }).Ids);
    }

    [Theory]
    [InlineData("llama")]
    [InlineData("gpt2")]
    public void A_row_ends_at_the_models_longest_sequence_and_others_go_on(string name)
    {
        using DecoderModel model = Load(name);
        var generator = new Generator(model);
        int limit = model.Config.MaxPositions;
        GenerationRequest[] requests = [new(Prompt(1, limit - 3)), new(Prompt(2, 2))];
        var options = new GenerationOptions { MaxNewTokens = 20 };
        IReadOnlyList<GenerationResult> results = generator.Generate(requests, options);
        Assert.Equal(3, results[0].Ids.Count);
        Assert.Equal(FinishReason.Length, results[0].Finish);
        Assert.Equal(generator.Generate(requests[1].Prompt, options).Ids, results[1].Ids);
        string message = Assert.Throws<EngineDataException>(() => generator.Generate(Prompt(1, limit), options)).Message;
        Assert.Contains($"has {limit} tokens", message);
        Assert.Contains($"at most {limit - 1}", message);
    }

    [Fact]
    public void Parts_of_the_stream_make_up_the_text()
    {
        var generator = new Generator(_model, Letters);
        GenerationRequest[] requests = [new(Prompt(3, 4)), new(Prompt(4, 9))];
        var options = new GenerationOptions { MaxNewTokens = 30 };
        var seen = new List<GeneratedToken>();
        IReadOnlyList<GenerationResult> results = generator.Generate(requests, options, seen.Add);
        Assert.Equal(seen, generator.Stream(requests, options));
        for (int r = 0; r < requests.Length; r++)
        {
            GeneratedToken[] row = [.. seen.Where(t => t.Row == r)];
            Assert.Equal(results[r].Ids, row.Select(t => t.Id));
            Assert.Equal(results[r].Text, string.Concat(row.Select(t => t.Text)));
            Assert.Equal(Letters.Decode([.. results[r].Ids]), results[r].Text);
            Assert.All(row[..^1], t => Assert.Null(t.Finish));
            Assert.Equal(results[r].Finish, row[^1].Finish);
        }

        // Without an onlooker the text is decoded at the end, and is the same.
        Assert.Equal(results.Select(r => r.Text), generator.Generate(requests, options).Select(r => r.Text));
    }

    [Fact]
    public void A_stop_string_ends_its_row_and_is_cut_off()
    {
        var generator = new Generator(_model, Letters);
        GenerationRequest[] requests = [new(Prompt(3, 4)), new(Prompt(4, 9))];
        var options = new GenerationOptions { MaxNewTokens = 24 };
        IReadOnlyList<GenerationResult> free = generator.Generate(requests, options);
        string text = free[0].Text!;
        string stop = text.Substring(6, 3);
        Assert.DoesNotContain(stop, free[1].Text!);
        int at = text.IndexOf(stop, StringComparison.Ordinal);
        IReadOnlyList<GenerationResult> stopped = generator.Generate(requests, options with { StopStrings = [stop] });
        Assert.Equal(FinishReason.StopString, stopped[0].Finish);
        Assert.Equal(text[..at], stopped[0].Text);
        Assert.EndsWith(stop, Letters.Decode([.. stopped[0].Ids]));
        Assert.Equal(free[1].Text, stopped[1].Text);
        Assert.Equal(FinishReason.Length, stopped[1].Finish);
    }

    [Fact]
    public void A_stop_token_is_in_the_ids_and_not_in_the_text()
    {
        var generator = new Generator(_model, Letters);
        GenerationResult free = generator.Generate(Prompt(3, 4), new GenerationOptions { MaxNewTokens = 8 });
        int at = free.Ids.ToList().IndexOf(free.Ids[4]);
        var options = new GenerationOptions { MaxNewTokens = 8, StopTokenIds = [free.Ids[4]] };
        var parts = new List<string?>();
        GenerationResult stopped = generator.Generate(Prompt(3, 4), options, t => parts.Add(t.Text));
        Assert.Equal(FinishReason.StopToken, stopped.Finish);
        Assert.Equal(free.Ids.Take(at + 1), stopped.Ids);
        Assert.Equal(Letters.Decode([.. free.Ids.Take(at)]), stopped.Text);
        Assert.Equal(stopped.Text, string.Concat(parts));
        Assert.Equal(stopped.Text, generator.Generate(Prompt(3, 4), options).Text);
    }

    [Fact]
    public void Rows_carry_their_adapters_through_every_layer_and_the_head()
    {
        // This test's adapter computes on the host, in the middle of a step.
        using IDisposable eager = TestDevice.WithoutGraphs();
        LinearModule up = _model.Linears.First(l => l.Path.EndsWith("up_proj", StringComparison.Ordinal));
        up.Adapter = _model.Head.Adapter = new SignAdapter();
        GenerationRequest[] requests = [.. Enumerable.Range(0, 9).Select(i => new GenerationRequest(Prompt(i, 2 + i))
        {
            Adapter = (i % 3) - 1,
            MaxNewTokens = 3 + i,
        })];
        var options = new GenerationOptions();
        int[][] alone = Alone(requests, options);
        Assert.Equal(alone, Ids(new Generator(_model).Generate(requests, options)));
        Assert.NotEqual(alone[1], Alone([requests[1] with { Adapter = 1 }], options)[0]);
        requests[4] = requests[4] with { Adapter = null };
        Assert.Throws<ArgumentException>(() => new Generator(_model).Generate(requests, options));
    }

    [Fact]
    public void Wrong_input_is_named()
    {
        var generator = new Generator(_model);
        var options = new GenerationOptions();
        Assert.Empty(generator.Generate(Array.Empty<GenerationRequest>(), options));
        Assert.Contains("prompt 1 is empty", Assert.Throws<EngineDataException>(() => generator.Generate([new GenerationRequest([1]), new GenerationRequest([])], options)).Message);
        Assert.Contains("prompt 0 has token id 71 at index 2", Assert.Throws<EngineDataException>(() => generator.Generate([1, 2, 71], options)).Message);
        Assert.Contains("-4", Assert.Throws<EngineDataException>(() => generator.Generate([-4], options)).Message);
        Assert.Contains("no tokenizer", Assert.Throws<ArgumentException>(() => generator.Generate([1], options with { StopStrings = ["x"] })).Message);
        Assert.Throws<ArgumentException>(() => generator.Generate([1], options with { TopP = 2 }));
    }

    [Fact]
    public void Cancelling_ends_it_between_steps()
    {
        using var source = new CancellationTokenSource();
        int tokens = 0;
        Assert.Throws<OperationCanceledException>(() => new Generator(_model).Generate([1, 2], new GenerationOptions(), _ =>
        {
            if (++tokens == 3)
            {
                source.Cancel();
            }
        }, source.Token));
        Assert.Equal(3, tokens);
    }

    /// <summary>Turns the sign of the rows of adapter 1, and checks that rows and their adapters agree in number.</summary>
    private sealed class SignAdapter : ILinearAdapter
    {
        public bool IsActive => true;

        public Variable Forward(Tape tape, BatchContext batch, LinearModule linear, Variable x)
        {
            Variable y = linear.Base(tape, x);
            Assert.Equal(batch.Batch, batch.RowAdapters!.Count);
            int tokens = Math.DivRem(x.Value.Shape[0], batch.Batch, out int rest);
            Assert.Equal(0, rest);
            float[] values = y.Value.ToArray<float>();
            for (int i = 0; i < values.Length; i++)
            {
                int row = i / linear.OutFeatures / tokens;
                values[i] = batch.RowAdapters[row] == 1 ? -values[i] : values[i];
            }

            y.Value.CopyFrom<float>(values);
            return y;
        }
    }
}

using System.Text;
using Engine.Kernels.Cpu;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>Whole runs: the same bits from the same seed whatever the threads, the interruptions, or the memory saved.</summary>
public class TrainingRunTests
{
    private static readonly TrainingOptions s_options = new()
    {
        Steps = 12,
        BatchSize = 3,
        Accumulate = 2,
        LearningRate = 5e-3,
        Schedule = ScheduleKind.Cosine,
        Warmup = 2,
        Clip = 1,
        Seed = 11,
    };

    [Fact]
    public void One_seed_gives_one_adapter()
    {
        using Trial first = Finished(s_options);
        using Trial second = Finished(s_options);
        Assert.Equal(first.Bits(), second.Bits());
        Assert.Equal(first.Course(), second.Course());
        using Trial third = Finished(s_options with { Seed = 12 });
        Assert.NotEqual(first.Bits(), third.Bits());
        using Trial ordered = Finished(s_options with { Shuffle = false });
        Assert.NotEqual(first.Bits(), ordered.Bits());
    }

    [Fact]
    public void The_number_of_threads_changes_no_bit()
    {
        int threads = CpuParallel.ThreadCount;
        try
        {
            byte[]? expected = null;
            foreach (int count in (int[])[1, 2, 3, 7])
            {
                CpuParallel.ThreadCount = count;

                // Large enough that every kernel shares its work out.
                using var trial = new Trial(
                    s_options with { Steps = 3, BatchSize = 8 }, Trial.Examples(40, longest: 60, vocabulary: 300), Trial.WithDropout,
                    adapted: Wide());
                trial.Go();
                expected ??= trial.Bits();
                Assert.Equal(expected, trial.Bits());
            }
        }
        finally
        {
            CpuParallel.ThreadCount = threads;
        }
    }

    [Theory]
    [InlineData(false, false, TrainingMethod.Lora, "arch/llama")]
    [InlineData(true, false, TrainingMethod.Lora, "arch/llama")]
    [InlineData(true, true, TrainingMethod.Lora, "arch/gpt2")]
    [InlineData(false, true, TrainingMethod.Full, "arch/llama3")]
    [InlineData(true, false, TrainingMethod.Full, "arch/llama_bf16")]
    public void A_run_that_was_interrupted_ends_with_the_same_bits(bool pack, bool checkpointing, TrainingMethod method, string model)
    {
        TrainingOptions options = s_options with { Pack = pack, GradientCheckpointing = checkpointing, Method = method };
        IReadOnlyList<Example> examples = Trial.Examples(20);
        examples = pack ? SequencePacker.Pack(examples, 40) : examples;
        using var whole = new Trial(options, examples, Trial.WithDropout, model);
        Assert.Equal(TrainingEnd.Completed, whole.Go().End);
        Assert.Equal(12, whole.Metrics.Count);

        using var directory = new TemporaryDirectory();
        var course = new List<(int, double, double, double)>();
        foreach (int cancelAfter in (int[])[5, 6, 99])
        {
            // Everything anew, as another process would.
            using var part = new Trial(options, examples, Trial.WithDropout, model, directory.Path) { CancelAfter = cancelAfter };
            if (TrainingCheckpoint.Latest(directory.Path) is { } latest)
            {
                TrainingCheckpoint.Load(latest, part.Run, options);
            }

            TrainingOutcome outcome = part.Go();
            course.AddRange(part.Course());
            if (cancelAfter < 99)
            {
                Assert.Equal(TrainingEnd.Cancelled, outcome.End);
                Assert.Equal(cancelAfter, outcome.Steps);
                Assert.Equal([directory.File($"checkpoint-{cancelAfter}")], part.Checkpoints);
                continue;
            }

            Assert.Equal(TrainingEnd.Completed, outcome.End);
            Assert.Equal(whole.Bits(), part.Bits());
        }

        Assert.Equal(whole.Course(), course);
    }

    [Theory]
    [InlineData("arch/llama")]
    [InlineData("arch/gpt2")]
    public void Gradient_checkpointing_changes_no_bit(string model)
    {
        using Trial plain = Finished(s_options, Trial.WithDropout, model);
        using Trial recomputed = Finished(s_options with { GradientCheckpointing = true }, Trial.WithDropout, model);
        Assert.Equal(plain.Bits(), recomputed.Bits());
        Assert.Equal(plain.Course(), recomputed.Course());
    }

    [Fact]
    public void Two_times_four_rows_make_the_step_of_eight()
    {
        TrainingOptions options = s_options with { Shuffle = false, Steps = 6 };
        using Trial whole = Finished(options with { BatchSize = 8, Accumulate = 1 }, rows: 24);
        using Trial halves = Finished(options with { BatchSize = 4, Accumulate = 2 }, rows: 24);
        foreach ((TrainingMetrics one, TrainingMetrics two) in whole.Metrics.Zip(halves.Metrics))
        {
            // The same tokens and losses, sums in another order: a few units in the last place of f32 (as in TrainingRecord,
            // three times four of them), for the norm grown by the division by √v of the steps before.
            Assert.Equal(one.Tokens, two.Tokens);
            Assert.InRange(two.Loss / one.Loss, 1 - 1.5e-6, 1 + 1.5e-6);
            Assert.InRange(two.GradientNorm / one.GradientNorm, 1 - 5e-6, 1 + 5e-6);
        }

        float[] first = [.. whole.Run.Trained.SelectMany(p => p.Value.ToArray<float>())];
        float[] second = [.. halves.Run.Trained.SelectMany(p => p.Value.ToArray<float>())];

        // One AdamW step moves an element by at most about the rate; where the gradient is rounding's size that is noise.
        // Such elements are rare: all but one in a hundred agree to 1e-5, none is off by more than twice the rates' sum.
        double[] differences = [.. first.Zip(second, (a, b) => Math.Abs((double)a - b)).Order()];
        Assert.InRange(differences[differences.Length * 99 / 100], 0, 1e-5);
        Assert.InRange(differences[^1], 0, 2 * whole.Metrics.Sum(m => m.LearningRate));
    }

    [Fact]
    public void Training_stops_when_the_evaluation_loss_no_longer_falls()
    {
        using var trial = new Trial(s_options with { Patience = 3, EvalEvery = 2, Eval = "held-out" }, Trial.Examples(20));
        var losses = new Queue<double>([3, 2, 2.5, 1.9, 1.9, 2, 1]);
        TrainingOutcome outcome = trial.Go(() => new EvaluationResult { Examples = 1, Tokens = 1, Loss = losses.Dequeue() });
        Assert.Equal(TrainingEnd.Completed, outcome.End); // 1.9 at step 8, then only two more
        Assert.Equal([(2, true), (4, true), (6, false), (8, true), (10, false), (12, false)], trial.Evaluations);

        using var impatient = new Trial(s_options with { Patience = 1, EvalEvery = 2, Eval = "held-out" }, Trial.Examples(20));
        losses = new Queue<double>([3, 2, 2.5, 1.9]);
        outcome = impatient.Go(() => new EvaluationResult { Examples = 1, Tokens = 1, Loss = losses.Dequeue() });
        Assert.Equal(TrainingEnd.StoppedEarly, outcome.End);
        Assert.Equal(6, outcome.Steps);
        Assert.Equal([(2, true), (4, true), (6, false)], impatient.Evaluations);
        Assert.Equal(new EarlyStopping(2, 1), impatient.Run.EarlyStopping);
    }

    [Fact]
    public void Metrics_count_steps_tokens_and_rates()
    {
        Example[] examples = Trial.Examples(10);
        using Trial trial = Finished(s_options with { Steps = null, Epochs = 3, Schedule = ScheduleKind.Linear });

        // 20 rows in batches of 3 are 7 an epoch; 21 batches two to a step are 11 steps, the last of one batch.
        Assert.Equal(11, trial.Run.TotalSteps);
        Assert.Equal(Enumerable.Range(1, 11), trial.Metrics.Select(m => m.Step));
        Assert.All(trial.Metrics, m => Assert.Equal(11, m.TotalSteps));
        LearningRateSchedule schedule = trial.Options.ToSchedule(11);
        Assert.Equal(Enumerable.Range(0, 11).Select(schedule.At), trial.Metrics.Select(m => m.LearningRate));
        Assert.All(trial.Metrics, m => Assert.True(m.TokensPerSecond > 0));
        Assert.Equal(3 * Trial.Examples(20).Sum(e => e.Length), trial.Metrics.Sum(m => m.Tokens));

        using var ordered = new Trial(s_options with { Shuffle = false, Steps = 1, BatchSize = 5, Schedule = ScheduleKind.Constant, Warmup = 0 }, examples);
        ordered.Go();
        Assert.Equal(examples.Sum(e => e.Length), Assert.Single(ordered.Metrics).Tokens);
    }

    [Fact]
    public void A_bf16_base_is_trained_through_an_f32_adapter()
    {
        using Trial trial = Finished(
            s_options with { Steps = 40, LearningRate = 1e-2, Schedule = ScheduleKind.Constant, Warmup = 0 }, model: "arch/llama_bf16");
        Assert.Equal(DType.BF16, trial.Model.Base.DType);
        Assert.All(trial.Run.Trained, p => Assert.Equal(DType.F32, p.Value.DType));
        Assert.InRange(trial.Metrics[^5..].Average(m => m.Loss), 0, 0.8 * trial.Metrics[..5].Average(m => m.Loss));
    }

    private static Trial Finished(TrainingOptions options, string config = Trial.Config, string model = "arch/llama", int rows = 20)
    {
        var trial = new Trial(options, Trial.Examples(rows), config, model);
        Assert.Equal(TrainingEnd.Completed, trial.Go().End);
        return trial;
    }

    private static AdaptedModel Wide()
    {
        const string Json = """
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 160, "intermediate_size": 420,
             "num_attention_heads": 5, "num_key_value_heads": 5, "num_hidden_layers": 1, "vocab_size": 300,
             "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
             "tie_word_embeddings": false}
            """;
        return new AdaptedModel(DecoderModel.Build(
            ModelConfig.Parse(Encoding.UTF8.GetBytes(Json)), new RandomParameters(1, 1), DType.F32, TestDevice.Current));
    }
}

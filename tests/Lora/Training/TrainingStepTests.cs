using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>One optimizer step: packing, dropout, batches without labels, losses that are not finite.</summary>
public sealed class TrainingStepTests : IDisposable
{
    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    private readonly AdaptedModel _model = ParityRun.Load("arch/llama");

    public void Dispose() => _model.Dispose();

    [Theory]
    [InlineData("arch/llama")]
    [InlineData("arch/gpt2")]
    [InlineData("arch/mistral")]
    public void Packed_rows_have_the_losses_of_their_examples(string name)
    {
        using AdaptedModel model = ParityRun.Load(name);
        Example[] examples = Trial.Examples(12);
        IReadOnlyList<Example> packed = SequencePacker.Pack(examples, 48);
        Assert.InRange(packed.Count, 2, 6);
        double[] apart = [.. examples.SelectMany(e => Losses(model, Batch.Collate([e])))];
        double[] together = Losses(model, Batch.Collate(packed));
        Assert.Equal(apart.Length, together.Length);

        // The examples lie in another order, so their losses are compared sorted. Each is log Σ exp − logit over logits of
        // size about 5 that two orders of summation give (7e-6 of the scale, LoraParityTests.Tight): 2 · 7e-6 · 5.
        foreach ((double a, double b) in apart.Order().Zip(together.Order()))
        {
            Assert.InRange(b, a - 7e-5, a + 7e-5);
        }
    }

    /// <summary>Each allocation of a step in turn is refused: whatever an op had made by then is given back.</summary>
    [Theory]
    [InlineData("arch/llama", Trial.WithDropout, false)]
    [InlineData("arch/llama", Trial.WithDropout, true)]
    [InlineData("arch/gpt2", """ "r": 4, "target_modules": ["c_attn", "c_fc"], "use_dora": true """, false)]
    public void Running_out_of_memory_anywhere_leaves_nothing_behind(string name, string config, bool checkpointing)
    {
        var device = new LimitedDevice();
        using AdaptedModel model = ParityRun.Load(name, device: device);
        model.Add("new", Fixture.Config(config), seed: 3);
        using var step = new TrainingStep(model, model.Train("new"), new AdamWOptions()) { GradientCheckpointing = checkpointing };
        Batch[] batch = [Batch.Collate(Trial.Examples(2))];
        step.Run(batch, 1e-3);
        long before = device.LiveStorages;
        var leaks = new List<string>();
        for (int allowed = 0; allowed < 5000; allowed++)
        {
            device.FailAfter = allowed;
            try
            {
                step.Run(batch, 1e-3);
                Assert.True(allowed > 50);
                Assert.Empty(leaks);
                return;
            }
            catch (DeviceOutOfMemoryException error)
            {
                if (device.LiveStorages != before)
                {
                    leaks.Add($"{device.LiveStorages - before} after {allowed}: {string.Join(" < ", error.StackTrace!.Split('\n').Where(l => l.Contains("/Ops/") || l.Contains("Kernels")).Take(3))}");
                    before = device.LiveStorages;
                }
            }
        }

        Assert.Fail("no step ever went through");
    }

    [Fact]
    public void A_batch_that_is_refused_leaves_no_gradients_behind()
    {
        _model.Add("new", Fixture.Config(Trial.Config), seed: 3);
        IReadOnlyList<Variable> trained = _model.Train("new");
        using var step = new TrainingStep(_model, trained, new AdamWOptions());
        int most = _model.Base.Config.MaxPositions;
        var tooLong = new Example(new int[most + 1], [.. Enumerable.Repeat(1, most + 1)]);
        string message = Assert.Throws<EngineDataException>(
            () => step.Run([Batch.Collate(Trial.Examples(2)), Batch.Collate([tooLong])], 1e-3)).Message;
        Assert.Contains($"max_position_embeddings is {most}", message, StringComparison.Ordinal);
        Assert.All(trained, p => Assert.DoesNotContain(p.Gradient!.ToDoubles(), g => g != 0));
        Assert.Contains("being trained already", Assert.Throws<InvalidOperationException>(
            () => new TrainingStep(_model, trained, new AdamWOptions())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Attention_does_not_cross_from_one_packed_example_to_the_next()
    {
        Example[] examples = [.. Trial.Examples(3)];
        double[] before = Losses(_model, Batch.Collate(SequencePacker.Pack(examples, 60)));
        int[] changed = [.. examples[0].Tokens.Select(t => (t + 1) % 71)];
        double[] after = Losses(_model, Batch.Collate(SequencePacker.Pack([examples[0] with { Tokens = changed }, .. examples[1..]], 60)));
        int first = examples[0].LabelledTokens;
        Assert.NotEqual(before[..first], after[..first]);
        Assert.Equal(before[first..], after[first..]); // to the bit
        Assert.NotEmpty(after[first..]);
    }

    [Fact]
    public void Padding_changes_no_loss()
    {
        Example[] examples = Trial.Examples(4);
        double[] zeros = Losses(_model, Batch.Collate(examples, padId: 0));
        double[] others = Losses(_model, Batch.Collate(examples, padId: 70));
        Assert.Equal(zeros, others);
        Assert.Equal(examples.Sum(e => e.LabelledTokens), zeros.Length);
    }

    [Fact]
    public void Dropout_works_in_training_and_not_in_evaluation()
    {
        float[] alone = ParityRun.Logits(_model, s_input);
        IReadOnlyList<Variable> trained = Adapter("""  "r": 8, "lora_alpha": 32, "target_modules": "all-linear", "init_lora_weights": false, "lora_dropout": 0.5 """);
        float[] evaluated = ParityRun.Logits(_model, s_input);
        Assert.NotEqual(alone, evaluated);
        Assert.Equal(evaluated, ParityRun.Logits(_model, s_input));

        Batch[] batch = [Batch.Collate(Trial.Examples(4))];
        double undropped = Losses(_model, batch[0]).Average();
        double[] one = Rateless(trained, batch, seed: 1);
        Assert.Equal(one.Length, one.Distinct().Count()); // each step draws other masks
        Assert.DoesNotContain(undropped, one);
        Assert.Equal(one, Rateless(trained, batch, seed: 1));
        Assert.Empty(one.Intersect(Rateless(trained, batch, seed: 2)));
        Assert.Equal(evaluated, ParityRun.Logits(_model, s_input));

        _model.Remove("new");
        trained = Adapter(""" "r": 8, "lora_alpha": 32, "target_modules": "all-linear", "init_lora_weights": false """);
        Assert.Single(Rateless(trained, batch, seed: 1).Distinct());
    }

    /// <summary>
    /// Dropping inputs of the low-rank branch and scaling the rest by 1/(1 − p) leaves the branch's output unchanged on
    /// average: over many masks the mean logit change stays within five standard errors.
    /// </summary>
    [Fact]
    public void Dropout_keeps_the_mean()
    {
        const int Masks = 400;
        IReadOnlyList<Variable> trained = Adapter(""" "r": 4, "lora_alpha": 1, "target_modules": ["v_proj"], "layers_to_transform": [1], "lora_dropout": 0.3, "init_lora_weights": false """);
        Assert.NotEmpty(trained);
        float[] plain = ParityRun.Logits(_model, s_input);
        double[] draws = [.. Enumerable.Range(0, Masks).Select(step => (double)TrainingLogit(step))];
        double mean = draws.Average();
        double error = Math.Sqrt(draws.Sum(d => (d - mean) * (d - mean)) / (Masks - 1) / Masks);
        Assert.True(error > 0);

        // The logit is not quite linear in the branch (a norm, the MLP); with α = 1 the branch is small and the bend is of
        // second order, far below the first-order spread that the standard error measures.
        Assert.InRange(plain[^1] - mean, -5 * error, 5 * error);
    }

    /// <summary>
    /// With dropout DoRA is computed by other terms (W·x + b − W·x' + c∘(W + s·B·A)·x'); where nothing is dropped they add
    /// up to the same, forward and backward.
    /// </summary>
    [Theory]
    [InlineData("arch/llama_bias", "q_proj")]
    [InlineData("arch/gpt2", "c_attn")]
    public void Dora_with_dropout_that_drops_nothing_is_dora(string name, string target)
    {
        double[][] courses = [.. ((string[])["0", "1e-9", "0.5"]).Select(p =>
        {
            using AdaptedModel model = ParityRun.Load(name);
            model.Add("new", Fixture.Config($$""" "r": 4, "target_modules": ["{{target}}"], "use_dora": true, "init_lora_weights": false, "lora_dropout": {{p}} """), seed: 3);
            using var step = new TrainingStep(model, model.Train("new"), new AdamWOptions());
            Batch[] batch = [Batch.Collate(Trial.Examples(4))];
            return (double[])[.. Enumerable.Range(0, 4).Select(_ => step.Run(batch, 5e-3)).SelectMany(r => (double[])[r.Loss, r.GradientNorm])];
        })];

        // The terms that cancel are of the output's own size: a few more roundings than TrainingRecord's bounds allow for.
        foreach ((double plain, double kept) in courses[0].Zip(courses[1]))
        {
            Assert.InRange(kept / plain, 1 - 1e-5, 1 + 1e-5);
        }

        Assert.All(courses[0].Zip(courses[2]), c => Assert.NotInRange(c.Second / c.First, 1 - 1e-4, 1 + 1e-4));
    }

    [Fact]
    public void A_micro_batch_without_labels_adds_nothing()
    {
        Example[] examples = Trial.Examples(4);
        Example unlabelled = examples[0] with { Labels = [.. examples[0].Labels.Select(_ => Example.IgnoredLabel)] };
        Batch labelled = Batch.Collate(examples);
        using var one = new TrainingStep(_model, Adapter(Trial.Config), new AdamWOptions());
        StepResult alone = one.Run([labelled], 1e-3);
        byte[] expected = [.. one.Optimizer.State().SelectMany(s => System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(s.Tensor.ToArray<float>()).ToArray())];
        _model.Remove("new");
        using var two = new TrainingStep(_model, Adapter(Trial.Config), new AdamWOptions());
        StepResult both = two.Run([labelled, Batch.Collate([unlabelled])], 1e-3);
        Assert.Equal(alone.Loss, both.Loss);
        Assert.Equal(alone.GradientNorm, both.GradientNorm);
        Assert.Equal(alone.LabelledTokens, both.LabelledTokens);
        Assert.Equal(expected, two.Optimizer.State().SelectMany(s => System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(s.Tensor.ToArray<float>()).ToArray()));

        string message = Assert.Throws<EngineDataException>(() => two.Run([Batch.Collate([unlabelled])], 1e-3)).Message;
        Assert.Contains("step 2", message, StringComparison.Ordinal);
        Assert.Contains("no labelled token", message, StringComparison.Ordinal);
    }

    /// <summary>The gradient of the states is gathered from the labels' in the one, scattered into zeros in the other.</summary>
    [Fact]
    public void A_batch_on_the_device_has_the_gradients_of_its_arrays()
    {
        IReadOnlyList<Variable> trained = Adapter("""  "r": 4, "target_modules": "all-linear", "init_lora_weights": false """);
        Batch batch = Batch.Collate(Trial.Examples(3));
        int labels = DecoderModel.CountLabels(batch.Length, batch.Labels);
        const float Scale = 0.25f;
        using (BatchContext context = TrainingStep.ContextOf(batch, _model.Base.Device, training: true))
        {
            using var tape = new Tape();
            using BatchLoss loss = _model.Base.Loss(tape, context, batch.Tokens, batch.Labels, Scale);
            tape.Backward(loss.Value);
        }

        float[][] expected = Gradients();
        using var inputs = new LabelledBatch(_model.Base, batch.Rows, batch.Length, labels);
        inputs.Fill(batch.Tokens, batch.SegmentStarts, batch.Labels, batch.Length, Scale, 0);
        int[] rows = inputs.LabelRows.ToArray<int>();
        int[] places = inputs.LabelPlaces.ToArray<int>();
        Assert.Equal(labels, places.Count(place => place >= 0));
        Assert.All(rows.Index().Take(labels), row => Assert.Equal(row.Index, places[row.Item]));
        using (var tape = new Tape())
        {
            using Variable loss = _model.Base.Loss(tape, inputs);
            tape.Backward(loss);
        }

        Assert.Equal(expected, Gradients());

        float[][] Gradients() => [.. trained.Select(parameter =>
        {
            using Tensor gradient = parameter.TakeGradient()!;
            return gradient.ToArray<float>();
        })];
    }

    [Fact]
    public void A_loss_that_is_not_finite_ends_the_run_before_it_spoils_the_weights()
    {
        IReadOnlyList<Variable> trained = Adapter(Trial.Config);
        using var step = new TrainingStep(_model, trained, new AdamWOptions());
        Batch[] batch = [Batch.Collate(Trial.Examples(4))];
        step.Run(batch, 1e30);
        float[] before = [.. trained.SelectMany(p => ParityRun.Floats(p.Value))];
        string message = Assert.Throws<EngineDataException>(() => step.Run(batch, 1e-3)).Message;
        Assert.Contains("step 2", message, StringComparison.Ordinal);
        Assert.Contains("--lr", message, StringComparison.Ordinal);
        Assert.Contains("NaN", message, StringComparison.Ordinal);
        Assert.Equal(1, step.Optimizer.Steps);
        Assert.Equal(before, trained.SelectMany(p => ParityRun.Floats(p.Value)));
    }

    private IReadOnlyList<Variable> Adapter(string config)
    {
        _model.Add("new", Fixture.Config(config), seed: 3);
        return _model.Train("new");
    }

    private double[] Rateless(IReadOnlyList<Variable> trained, Batch[] batch, ulong seed)
    {
        using var step = new TrainingStep(_model, trained, new AdamWOptions()) { DropoutSeed = seed };
        return [.. Enumerable.Range(0, 4).Select(_ => step.Run(batch, learningRate: 0).Loss)];
    }

    private float TrainingLogit(int step)
    {
        int length = s_input.Ids.Length / s_input.Rows;
        using var context = new BatchContext(
            _model.Base.Device, s_input.Rows, length, BatchContext.DensePositions(s_input.Rows, length), new int[s_input.Ids.Length])
        { Training = true, DropoutSeed = 5, DropoutStep = step };
        using Tape tape = Tape.Inference();
        using Variable hidden = _model.Base.Hidden(tape, context, s_input.Ids);
        using Variable logits = _model.Base.Logits(tape, context, hidden);
        return ParityRun.Floats(logits.Value)[^1];
    }

    private static double[] Losses(AdaptedModel model, Batch batch)
    {
        using BatchContext context = TrainingStep.ContextOf(batch, model.Base.Device);
        using Tape tape = Tape.Inference();
        using BatchLoss loss = model.Base.Loss(tape, context, batch.Tokens, batch.Labels, 1);
        return loss.Losses;
    }
}

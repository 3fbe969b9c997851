using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>Batches whose rows train different adapters.</summary>
public sealed class MixedTrainingTests : IDisposable
{
    private const string Plain = """ "r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": false """;
    private const string Wide = """ "r": 12, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": false """;
    private const string Dropping = """ "r": 4, "target_modules": ["q_proj"], "init_lora_weights": false, "lora_dropout": 0.25 """;
    private const string Head = """ "r": 4, "target_modules": ["lm_head"] """;

    private static readonly string[] s_names = ["plain", "wide"];
    private static readonly int[] s_rows = [1, 0, -1, 1];

    private readonly AdaptedModel _model = ParityRun.Load("arch/llama");

    public MixedTrainingTests()
    {
        _model.Add("plain", Fixture.Config(Plain), seed: 1);
        _model.Add("wide", Fixture.Config(Wide), seed: 2);
    }

    public void Dispose() => _model.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Each_adapters_gradients_are_those_of_its_rows_alone(bool checkpoint)
    {
        Batch batch = ParityRun.Batches()[0];
        Assert.Equal(s_rows.Length, batch.Rows);
        IReadOnlyList<Variable> trained = _model.TrainMixed(s_names);
        Assert.Equal(_model.Get("plain").Parameters.Concat(_model.Get("wide").Parameters), trained);
        Backward(batch, s_rows, checkpoint);
        Dictionary<Variable, float[]> together = trained.ToDictionary(p => p, p => ParityRun.Floats(p.Gradient!));
        Assert.All(_model.Base.Parameters.Values, p => Assert.Null(p.Gradient));
        foreach (string name in s_names)
        {
            int index = Array.IndexOf(s_names, name);
            foreach (Variable parameter in _model.Train(name))
            {
                parameter.ClearGradient();
            }

            Backward(Rows(batch, [.. Enumerable.Range(0, batch.Rows).Where(r => s_rows[r] == index)]), null, checkpoint);
            foreach (Variable parameter in _model.Get(name).Parameters)
            {
                float[] alone = ParityRun.Floats(parameter.Gradient!);
                Assert.Contains(alone, g => g != 0);
                Assert.InRange(ParityRun.MaxDifference(alone, together[parameter]), 0, LoraParityTests.Tight * ParityRun.Scale(alone));
                parameter.ClearGradient();
            }
        }
    }

    [Fact]
    public void Steps_train_the_adapters_of_their_rows_and_leave_the_others()
    {
        Batch[] batches = ParityRun.Batches();
        float[] plain = ParityRun.Floats(_model.Get("plain").Layers[0].A.Value);
        float[] wide = ParityRun.Floats(_model.Get("wide").Layers[0].A.Value);
        string hash = _model.BaseHash();
        using (var step = new TrainingStep(_model, _model.TrainMixed(s_names), new AdamWOptions { WeightDecay = 0 }))
        {
            // First without a row of "wide": with zero gradients and moments Adam leaves its parameters alone.
            batches[0].RowAdapters = [0, 0, -1, 0];
            step.Run([batches[0]], 1e-3);
            Assert.Equal(wide, ParityRun.Floats(_model.Get("wide").Layers[0].A.Value));
            Assert.NotEqual(plain, ParityRun.Floats(_model.Get("plain").Layers[0].A.Value));
            double first = Loss(step, batches[0]);
            double last = first;
            for (int i = 0; i < 6; i++)
            {
                last = Loss(step, batches[0]);
            }

            Assert.True(last < first, $"{last} after {first}");
            Assert.NotEqual(wide, ParityRun.Floats(_model.Get("wide").Layers[0].A.Value));
            batches[0].RowAdapters = [0, 2, 0, 0];
            Assert.Contains("row adapters", Assert.Throws<ArgumentException>(() => step.Run([batches[0]], 1e-3)).Message, StringComparison.Ordinal);
        }

        Assert.Equal(hash, _model.BaseHash());

        static double Loss(TrainingStep step, Batch batch)
        {
            batch.RowAdapters = s_rows;
            return step.Run([batch], 1e-3).Loss;
        }
    }

    [Fact]
    public void Adapters_that_cannot_be_trained_side_by_side_are_refused()
    {
        _model.Add("dropping", Fixture.Config(Dropping), seed: 3);
        _model.Add("head", Fixture.Config(Head), seed: 4);
        AssertRefused(["plain", "plain"], "\"plain\"", "twice");
        AssertRefused(["plain", "head"], "\"head\"", "lm_head");
        AssertRefused(["plain", "dropping"], "dropout", "0.25");
        _model.TrainMixed(["dropping"]);

        void AssertRefused(string[] names, params string[] words)
        {
            string message = Assert.Throws<EngineDataException>(() => _model.TrainMixed(names)).Message;
            Assert.All(words, w => Assert.Contains(w, message, StringComparison.Ordinal));
        }
    }

    private void Backward(Batch batch, IReadOnlyList<int>? rows, bool checkpoint)
    {
        batch.RowAdapters = rows;
        using BatchContext context = TrainingStep.ContextOf(batch, _model.Base.Device, training: true, checkpoint: checkpoint);
        using var tape = new Tape();
        using BatchLoss loss = _model.Base.Loss(tape, context, batch.Tokens, batch.Labels, 0.25f);
        tape.Backward(loss.Value);
    }

    private static Batch Rows(Batch batch, int[] rows) => Batch.Collate([.. rows.Select(r => new Example(
        batch.Tokens[(r * batch.Length)..((r + 1) * batch.Length)], batch.Labels[(r * batch.Length)..((r + 1) * batch.Length)]))]);
}

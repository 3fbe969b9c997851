using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer.Tests.Parity;

/// <summary>The decoder's logits against transformers', for every architecture in tests/fixtures/parity/arch.</summary>
public class ArchitectureTests
{
    // Issue: fp32 logits within 2e-4 of the reference's scale.
    private const double RelativeTolerance = 2e-4;

    public static TheoryData<string> Names => ArchitectureFixture.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void Logits_agree_with_transformers(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        using DecoderModel model = fixture.Load();
        int[] shape = fixture.Shape("logits");
        using BatchContext batch = BatchContext.Dense(TestDevice.Current, shape[0], shape[1]);
        AssertClose(fixture.Floats("logits"), Logits(model, batch, fixture.Ids("input_ids")), i => true);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Logits_of_a_left_padded_batch_agree_with_transformers(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        using DecoderModel model = fixture.Load();
        int[] shape = fixture.Shape("padded_logits");
        int[] mask = fixture.Ids("padded_attention_mask");
        int[] positions = fixture.Ids("padded_position_ids");
        int[] keyStart = new int[mask.Length];
        for (int i = 0; i < mask.Length; i++)
        {
            int row = i / shape[1];
            keyStart[i] = mask.AsSpan(row * shape[1], shape[1]).IndexOf(1);
        }

        Assert.Contains(keyStart, k => k > 0);
        using var batch = new BatchContext(TestDevice.Current, shape[0], shape[1], positions, keyStart);
        float[] logits = Logits(model, batch, fixture.Ids("padded_input_ids"));
        AssertClose(fixture.Floats("padded_logits"), logits, i => mask[i / shape[2]] == 1);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void The_older_spelling_of_the_configuration_gives_the_same_bits(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        int[] shape = fixture.Shape("logits");
        int[] ids = fixture.Ids("input_ids");
        using BatchContext batch = BatchContext.Dense(TestDevice.Current, shape[0], shape[1]);
        using DecoderModel model = fixture.Load();
        using var directory = new TemporaryDirectory();
        foreach (string file in Directory.GetFiles(fixture.Directory, "model*"))
        {
            File.Copy(file, directory.File(Path.GetFileName(file)));
        }

        File.Copy(Path.Combine(fixture.Directory, "config_old.json"), directory.File("config.json"));
        using DecoderModel old = DecoderModel.Load(directory.Path, DType.F32, TestDevice.Current);
        Assert.Equal(Logits(model, batch, ids), Logits(old, batch, ids));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Rotary_frequencies_agree_with_transformers(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        ModelConfig config = ModelConfig.Load(fixture.Directory);
        Assert.Equal(config.Positions == PositionKind.Rope, fixture.Has("inv_freq"));
        if (!fixture.Has("inv_freq"))
        {
            return;
        }

        float[] expected = fixture.Floats("inv_freq");
        double[] actual = RotaryTable.InverseFrequencies(config.HeadDim, config.RopeTheta, config.RopeScaling);
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            // The reference works in float32: a power, a division and up to five operations of scaling, each within 2^-24 of
            // its value (the power within a few of these).
            Assert.InRange(actual[i] / expected[i], 1 - (16 * Math.Pow(2, -24)), 1 + (16 * Math.Pow(2, -24)));
        }
    }

    private static float[] Logits(DecoderModel model, BatchContext batch, int[] ids)
    {
        using Tape tape = Tape.Inference();
        using Variable hidden = model.Hidden(tape, batch, ids);
        using Variable logits = model.Logits(tape, batch, hidden);
        return logits.Value.ToArray<float>();
    }

    private static void AssertClose(float[] expected, float[] actual, Func<int, bool> counts)
    {
        Assert.Equal(expected.Length, actual.Length);
        double scale = 0;
        double worst = 0;
        int at = -1;
        for (int i = 0; i < expected.Length; i++)
        {
            if (!counts(i))
            {
                continue;
            }

            scale = Math.Max(scale, Math.Abs(expected[i]));
            double difference = Math.Abs((double)expected[i] - actual[i]);
            if (!(difference <= worst))
            {
                worst = difference;
                at = i;
            }
        }

        Assert.True(worst <= RelativeTolerance * scale, $"worst at {at}: {worst:g3} of a scale of {scale:g3}");
    }
}

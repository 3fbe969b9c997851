using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer.Tests.Parity;

/// <summary>The decoder in bf16 against transformers in bf16: how far each is from transformers' fp32 logits.</summary>
public class Bf16ParityTests
{
    private static readonly Bf16Errors s_torch = new("arch");

    public static TheoryData<string> Names => [.. s_torch.Cases];

    [Fact]
    public void Every_architecture_was_measured()
    {
        Assert.Equal(ArchitectureFixture.Names.Select(row => row.Data), s_torch.Cases);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Logits_in_bf16_are_as_close_as_transformers(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        using DecoderModel model = DecoderModel.Load(fixture.Directory, DType.BF16, TestDevice.Current);
        int[] shape = fixture.Shape("logits");
        using (BatchContext batch = BatchContext.Dense(model.Device, shape[0], shape[1]))
        {
            double[] logits = Logits(model, batch, fixture.Ids("input_ids"));
            s_torch.AssertWithinTwice(name, "logits", Doubles(fixture.Floats("logits")), logits);
        }

        int[] mask = fixture.Ids("padded_attention_mask");
        int[] keyStart = [.. mask.Select((_, i) => mask.AsSpan(i / shape[1] * shape[1], shape[1]).IndexOf(1))];
        using (var batch = new BatchContext(model.Device, shape[0], shape[1], fixture.Ids("padded_position_ids"), keyStart))
        {
            bool IsReal(double value, int index) => mask[index / shape[2]] == 1;
            double[] logits = [.. Logits(model, batch, fixture.Ids("padded_input_ids")).Where(IsReal)];
            s_torch.AssertWithinTwice(name, "padded_logits", [.. Doubles(fixture.Floats("padded_logits")).Where(IsReal)], logits);
        }
    }

    private static double[] Logits(DecoderModel model, BatchContext batch, int[] ids)
    {
        using Tape tape = Tape.Inference();
        using Variable hidden = model.Hidden(tape, batch, ids);
        using Variable logits = model.Logits(tape, batch, hidden);
        using Tensor f32 = logits.Value.EmptyLike(DType.F32);
        Cast.Run(logits.Value, f32);
        return Doubles(f32.ToArray<float>());
    }

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, v => (double)v);
}

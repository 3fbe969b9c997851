using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>What a model with adapters keeps between forward and backward, to the byte: nothing that backward can do without.</summary>
[Trait("Device", "Cpu")]
public sealed class KeptActivationsTests
{
    [Fact]
    public void A_block_keeps_its_sums_its_products_and_the_adapters_narrow_parts()
    {
        // Each linear's columns of a border are its rank rounded up to 8; the border itself has 64.
        const int Own = 8, Border = 64;
        var device = new CountedDevice();
        using AdaptedModel model = ParityRun.Load("arch/llama", device: device);
        model.Add("new", Fixture.Config(Trial.Config), seed: 3);
        Assert.NotEmpty(model.Train("new"));
        Batch batch = Batch.Collate(Trial.Examples(4));
        using BatchContext context = TrainingStep.ContextOf(batch, device, training: true);
        ModelConfig config = model.Base.Config;
        long hidden = config.HiddenSize;
        long query = (long)config.HeadCount * config.HeadDim;
        long keyValue = (long)config.KeyValueHeadCount * config.HeadDim;

        // Without what a first run makes for all that follow, such as rotary tables.
        Kept();
        long kept = Kept();

        // The sum before each norm and its 1/rms; S of q, k, v and of gate and up; q, k, v, the attention's output with S in its border
        // and a statistic for each head; gate, up and S behind them.
        long block = (2 * (hidden + 1)) + (5 * Own) + query + (2 * keyValue) + query + Border + config.HeadCount + (2L * config.IntermediateSize) + Own;

        // Nothing before the first norm is trained: its result is kept in place of its input. The final norm has its sum and a result.
        long firstNorm = hidden + Border - (hidden + 1) - (3 * Own);
        long finalNorm = hidden + 1 + hidden;
        Assert.Equal(sizeof(float) * batch.Tokens.Length * ((config.LayerCount * block) + firstNorm + finalNorm), kept);

        long Kept()
        {
            long before = device.LiveBytes;
            using var tape = new Tape();
            using Variable states = model.Base.Hidden(tape, context, batch.Tokens);
            return device.LiveBytes - before;
        }
    }
}

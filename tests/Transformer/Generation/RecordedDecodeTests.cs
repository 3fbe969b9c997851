using Engine.Tensors;
using Engine.Tensors.Cuda;
using Engine.Transformer.Tests.Parity;

namespace Engine.Transformer.Tests;

/// <summary>Decoding steps that the GPU replays: the same tokens as launch by launch.</summary>
[Collection(nameof(CudaCollection))]
public sealed class RecordedDecodeTests
{
    [Theory]
    [InlineData("llama", true)]
    [InlineData("llama", false)]
    [InlineData("gpt2", true)]
    [InlineData("mistral", true)]
    public void Replayed_steps_choose_the_same_tokens(string name, bool greedy)
    {
        CudaDevice device = RequireCuda.Device();
        int[][] recorded = Generate(device, name, greedy);
        device.UsesGraphs = false;
        try
        {
            Assert.Equal(recorded, Generate(device, name, greedy));
        }
        finally
        {
            device.UsesGraphs = true;
        }

        // The CPU's logits differ in the last bits, the best token of these models by far more.
        if (greedy)
        {
            Assert.Equal(recorded, Generate(Device.Cpu, name, greedy));
        }
    }

    [Fact]
    public void A_warm_step_allocates_nothing()
    {
        CudaDevice device = RequireCuda.Device();
        using DecoderModel model = DecoderModel.Load(Path.Combine(ArchitectureFixture.Root, "llama"), DType.BF16, device);
        var options = new GenerationOptions { MaxNewTokens = 40, Temperature = 1, TopK = 20, TopP = 0.9, Seed = 11 };
        using var session = new GenerationSession(model, [new([3, 5, 7, 11]), new([2, 4])], options, null);
        var tokens = new List<GeneratedToken>(100);
        for (int i = 0; i < 6; i++)
        {
            session.Step(tokens, CancellationToken.None);
        }

        (long calls, long storages) = (device.DriverAllocations, device.LiveStorages);
        Assert.Equal(0, Allocated.By(() => session.Step(tokens, CancellationToken.None)));
        Assert.Equal((calls, storages), (device.DriverAllocations, device.LiveStorages));
        Assert.Equal(18, tokens.Count);
    }

    private static int[][] Generate(Device device, string name, bool greedy)
    {
        using DecoderModel model = DecoderModel.Load(Path.Combine(ArchitectureFixture.Root, name), DType.F32, device);
        var options = new GenerationOptions { MaxNewTokens = 24, Temperature = greedy ? 0 : 1, TopK = 20, TopP = 0.9, Seed = 11 };
        GenerationRequest[] requests = [new([3, 5, 7, 11]), new([2, 4]), new([9, 8, 7, 6, 5, 4])];
        return [.. new Generator(model, null).Generate(requests, options, null, CancellationToken.None).Select(r => r.Ids.ToArray())];
    }
}

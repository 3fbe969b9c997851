using System.Runtime.InteropServices;
using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Lora.Tests;

/// <summary>Steps that the GPU replays: the same bits as steps that it does not, and nothing allocated when warm.</summary>
[Collection(nameof(CudaCollection))]
public sealed class RecordedStepTests
{
    private const int Warm = 5;

    [Theory]
    [InlineData("arch/llama", DType.F32)]
    [InlineData("arch/llama", DType.BF16)]
    [InlineData("arch/gpt2", DType.BF16)]
    [InlineData("arch/mistral", DType.F16)]
    public void Replays_give_the_bits_of_steps_that_run_launch_by_launch(string model, DType dtype)
    {
        CudaDevice device = RequireCuda.Device();
        (byte[] recorded, long replays) = Train(device, model, dtype);
        Assert.Equal(6, replays);
        (byte[] again, _) = Train(device, model, dtype);
        Assert.Equal(recorded, again);

        device.UsesGraphs = false;
        try
        {
            (byte[] eager, long none) = Train(device, model, dtype);
            Assert.Equal(0, none);
            Assert.Equal(recorded, eager);
        }
        finally
        {
            device.UsesGraphs = true;
        }
    }

    [Fact]
    public void A_warm_training_step_allocates_nothing()
    {
        CudaDevice device = RequireCuda.Device();
        using AdaptedModel model = ParityRun.Load("arch/llama", DType.BF16, device);
        model.Add("new", Fixture.Config(Trial.WithDropout), seed: 3);
        using var step = new TrainingStep(model, model.Train("new"), new AdamWOptions()) { Clip = 1 };
        Batch[] batch = [Batch.Collate(Trial.Examples(4))];
        for (int i = 0; i < Warm; i++)
        {
            step.Run(batch, 1e-3);
        }

        long driver = device.DriverAllocations;
        long storages = device.LiveStorages;
        Assert.Equal(0, Allocated.By(() => step.Run(batch, 1e-3)));
        Assert.Equal(driver, device.DriverAllocations);
        Assert.Equal(storages, device.LiveStorages);
    }

    [Fact]
    public void Storage_of_a_run_is_given_back()
    {
        CudaDevice device = RequireCuda.Device();
        Train(device, "arch/llama", DType.F32);
        long before = device.LiveStorages;
        Train(device, "arch/llama", DType.F32);
        Assert.Equal(before, device.LiveStorages);
    }

    [Fact]
    public void Accumulated_micro_batches_are_replayed_too()
    {
        CudaDevice device = RequireCuda.Device();
        using AdaptedModel model = ParityRun.Load("arch/llama", DType.F32, device);
        model.Add("new", Fixture.Config(Trial.Config), seed: 3);
        using var step = new TrainingStep(model, model.Train("new"), new AdamWOptions());
        Batch[] batches = [Batch.Collate(Trial.Examples(4, 1)), Batch.Collate(Trial.Examples(4, 2)), Batch.Collate(Trial.Examples(4, 3))];
        double[] losses = [.. Enumerable.Range(0, 6).Select(_ => step.Run(batches, 1e-3).Loss)];
        Assert.InRange(step.Replays, 9, 18);
        Assert.True(losses[^1] < losses[0], string.Join(' ', losses));
    }

    private static (byte[] Bits, long Replays) Train(CudaDevice device, string name, DType dtype)
    {
        using AdaptedModel model = ParityRun.Load(name, dtype, device);
        model.Add("new", Fixture.Config(Trial.WithDropout.Replace("\"all-linear\"", name.EndsWith("gpt2", StringComparison.Ordinal) ? "[\"c_attn\", \"c_fc\"]" : "\"all-linear\"", StringComparison.Ordinal)), seed: 3);
        IReadOnlyList<Variable> trained = model.Train("new");
        using var step = new TrainingStep(model, trained, new AdamWOptions()) { Clip = 1, DropoutSeed = 7 };
        for (int i = 0; i < 12; i++)
        {
            // Two extents after rounding, so that recordings alternate.
            step.Run([Batch.Collate(Trial.Examples(i % 2 == 0 ? 4 : 2, i))], 1e-3);
        }

        byte[] bits = [.. trained.SelectMany(p => MemoryMarshal.AsBytes<float>(p.Value.ToArray<float>()).ToArray())];
        return (bits, step.Replays);
    }
}

using Engine.Autograd;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Transformer.Tests.Models;

/// <summary>For tests that set <see cref="CpuParallel.ThreadCount"/>: they run beside no other test.</summary>
[CollectionDefinition(nameof(CpuParallel), DisableParallelization = true)]
public sealed class CpuParallelCollection
{
}

/// <summary>Gradients of whole decoders.</summary>
[Collection(nameof(CpuParallel))]
public sealed class DecoderGradientTests
{
    public static TheoryData<string> Names => [.. SmallDecoders.Names];

    /// <summary>
    /// Every element of every parameter. The loss is of order one and each evaluation of it rounds some tens of times on
    /// the way from a parameter, so the difference quotient is off by about 10·ε·|loss|/h ≈ 10·1.1e-16·3/1.2e-5 ≈ 3e-10,
    /// and by h²/6 ≈ 6e-12 of the third derivative, which is below a thousand here: 1e-8 in all.
    /// </summary>
    [Theory]
    [Trait("Device", "Cpu")]
    [MemberData(nameof(Names))]
    public void Gradients_agree_with_finite_differences(string name)
    {
        const int Length = 8;
        var device = new CountedDevice();
        using (DecoderModel model = SmallDecoders.Build(SmallDecoders.Config(name), DType.F64, device, 0.4))
        {
            (BatchContext batch, int[] ids, int[] labels) = SmallDecoders.Batch(model, Length);
            using (batch)
            {
                float scale = 1f / DecoderModel.CountLabels(Length, labels);
                foreach ((string parameter, Variable variable) in model.Parameters)
                {
                    (double error, string where) = GradientCheck.Run(
                        (tape, _) => model.Loss(tape, batch, ids, labels, scale).Value, variable);
                    Assert.True(error <= 1e-8, $"{parameter}: {error:E2} at {where}");
                    ClearAll(model);
                }
            }

            // Gradients are large enough for that bound to mean at least four digits.
            foreach ((string parameter, byte[] bytes) in SmallDecoders.Gradients(model, Length))
            {
                double largest = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(bytes).ToArray().Max(Math.Abs);
                Assert.True(largest >= 1e-4, $"{parameter}: largest gradient {largest:E2}");
            }
        }

        Assert.Equal(0, device.LiveStorages);
    }

    public static TheoryData<string, DType> NamesAndTypes
    {
        get
        {
            var data = new TheoryData<string, DType>();
            foreach (string name in SmallDecoders.Names)
            {
                data.Add(name, DType.F32);
                data.Add(name, DType.BF16);
            }

            return data;
        }
    }

    /// <summary>
    /// A checkpointed block adds and normalises in separate ops at its borders, where otherwise one op does both: that op's bits
    /// are the same.
    /// </summary>
    [Theory]
    [MemberData(nameof(NamesAndTypes))]
    public void Checkpointed_blocks_give_the_same_bits(string name, DType dtype)
    {
        var device = new CountedDevice();
        using (DecoderModel model = SmallDecoders.Build(SmallDecoders.Config(name, 4), dtype, device, 0.1))
        {
            Dictionary<string, byte[]> plain = SmallDecoders.Gradients(model, 33);
            AssertSame(plain, SmallDecoders.Gradients(model, 33, checkpoint: true), "with checkpoints");
        }

        Assert.Equal(0, device.LiveStorages);
    }

    /// <summary>Large enough that every kernel cuts its work into several tasks: 258 tokens, 256 wide, 352 words. A GPU repeats the same.</summary>
    [Theory]
    [InlineData("llama")]
    [InlineData("qwen3")]
    [InlineData("gpt2")]
    public void Gradients_do_not_depend_on_the_thread_count(string name)
    {
        using DecoderModel model = SmallDecoders.Build(SmallDecoders.Config(name, 32), DType.F32, TestDevice.Current, 0.05);
        int before = CpuParallel.ThreadCount;
        try
        {
            CpuParallel.ThreadCount = 1;
            Dictionary<string, byte[]> expected = SmallDecoders.Gradients(model, 129);
            foreach (int threads in new[] { 2, 5 })
            {
                CpuParallel.ThreadCount = threads;
                AssertSame(expected, SmallDecoders.Gradients(model, 129), $"with {threads} threads");
            }
        }
        finally
        {
            CpuParallel.ThreadCount = before;
        }
    }

    [Fact]
    public void Only_what_is_trained_gets_a_gradient()
    {
        using DecoderModel model = SmallDecoders.Build(SmallDecoders.Config("llama"), DType.F32, TestDevice.Current, 0.4);
        Dictionary<string, byte[]> all = SmallDecoders.Gradients(model, 8);
        const string Trained = "model.layers.1.self_attn.v_proj.weight";
        foreach ((string name, Variable variable) in model.Parameters)
        {
            variable.RequiresGrad = name == Trained;
        }

        (BatchContext batch, int[] ids, int[] labels) = SmallDecoders.Batch(model, 8);
        using (batch)
        using (var tape = new Tape())
        using (BatchLoss loss = model.Loss(tape, batch, ids, labels, 1f / DecoderModel.CountLabels(8, labels)))
        {
            // From v on: the stack of q, k and v, attention with rotation, output, residual; norm, gate and up, SwiGLU, down, residual;
            // norm, gather, loss. The first layer is not recorded.
            Assert.Equal(12, tape.Count);
            tape.Backward(loss.Value, Tensor.From([1f], [1], TestDevice.Current));
        }

        Assert.Equal([Trained], model.Parameters.Where(p => p.Value.Gradient is not null).Select(p => p.Key));
        Assert.Equal(all[Trained], model.Parameters[Trained].Gradient!.ToBytes());
        ClearAll(model);
    }

    private static void ClearAll(DecoderModel model)
    {
        foreach (Variable parameter in model.Parameters.Values)
        {
            parameter.ClearGradient();
        }
    }

    private static void AssertSame(Dictionary<string, byte[]> expected, Dictionary<string, byte[]> actual, string when)
    {
        Assert.Equal(expected.Keys, actual.Keys);
        foreach ((string name, byte[] bytes) in expected)
        {
            Assert.True(bytes.AsSpan().SequenceEqual(actual[name]), $"{name} differs {when}");
            Assert.Contains(bytes, b => b != 0);
        }
    }
}

using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Tapes;

/// <summary>Checkpointed blocks compute the same bits in less memory.</summary>
public sealed class CheckpointTests : IDisposable
{
    private const int Rows = 256;
    private const int Width = 32;
    private const int Blocks = 8;

    private readonly CountedDevice _device = new();

    public void Dispose() => Assert.Equal(0, _device.LiveStorages);

    [Fact]
    public void Gradients_are_the_same_bits_and_the_peak_is_lower()
    {
        (List<byte[]> plain, long plainPeak) = Run(checkpoint: false);
        (List<byte[]> checkpointed, long checkpointedPeak) = Run(checkpoint: true);
        Assert.Equal(plain, checkpointed);

        // In units of one activation [256, 32], 32 KiB: the weights of 8 blocks are 8, their gradients 8. Plain, a block
        // keeps 10 (its input, the norm's result, and two of four times the width): at least 8 + 80. Checkpointed it keeps
        // its input, and one block at a time has its 10 and as many on their way: at most 8 + 8 + 8 + 20. 44/88 = 0.5.
        Assert.True(checkpointedPeak < 0.6 * plainPeak, $"{checkpointedPeak} bytes with checkpoints, {plainPeak} without");
    }

    [Fact]
    public void A_block_that_trains_nothing_is_not_recorded()
    {
        using Variable x = Leaves.Single(_device, [3, 4], 1, requiresGrad: false);
        using Variable frozen = Leaves.Single(_device, [4, 4], 2, requiresGrad: false);
        using Variable trained = Leaves.Single(_device, [4, 4], 3);
        using var tape = new Tape();
        using Variable first = tape.Checkpoint(x, (t, h) => t.Linear(h, frozen, null));
        Assert.Equal(0, tape.Count);
        Assert.False(first.RequiresGrad);
        using Variable second = tape.Checkpoint(first, (t, h) =>
        {
            using Variable projected = t.Linear(h, trained, null);
            return t.Silu(projected);
        });
        Assert.Equal(1, tape.Count);
        Assert.Equal(first.Value.ByteLength, tape.SavedBytes);
        tape.Backward(second, Tensor.From(new float[12], [3, 4], _device));
        Assert.NotNull(trained.Gradient);
    }

    [Fact]
    public void A_block_inside_a_block_runs_again_inside_it()
    {
        using Variable x = Leaves.Single(_device, [3, 4], 1);
        using Variable w = Leaves.Single(_device, [4, 4], 2);
        float[] upstream = [.. Enumerable.Range(0, 12).Select(i => i - 5.5f)];
        byte[] Gradient(Func<Tape, Variable> function)
        {
            using var tape = new Tape();
            using Variable y = function(tape);
            tape.Backward(y, Tensor.From(upstream, [3, 4], _device));
            byte[] bits = [.. Leaves.GradientBytes(x)!, .. Leaves.GradientBytes(w)!];
            x.ClearGradient();
            w.ClearGradient();
            return bits;
        }

        Variable Inner(Tape t, Variable h)
        {
            using Variable projected = t.Linear(h, w, null);
            return t.Silu(projected);
        }

        byte[] plain = Gradient(t => Inner(t, x));
        Assert.Equal(plain, Gradient(t => t.Checkpoint(x, (outer, h) => outer.Checkpoint(h, Inner))));
    }

    [Fact]
    public void An_exception_in_a_block_leaves_nothing_behind()
    {
        using Variable x = Leaves.Single(_device, [3, 4], 1);
        long before = _device.LiveStorages;
        int runs = 0;
        Variable Block(Tape tape, Variable h)
        {
            using Variable bent = tape.Silu(h);
            return runs++ == 0 ? tape.Silu(bent) : throw new InvalidOperationException("as intended");
        }

        using (var tape = new Tape())
        {
            using Variable y = tape.Checkpoint(x, Block);
            Tensor upstream = Tensor.From(new float[12], [3, 4], _device);
            Assert.Throws<InvalidOperationException>(() => tape.Backward(y, upstream));
        }

        Assert.Equal(before, _device.LiveStorages);
        using (var tape = new Tape())
        {
            Assert.Throws<InvalidOperationException>(() => tape.Checkpoint(x, Block));
            Assert.Equal(0, tape.Count);
        }

        Assert.Equal(before, _device.LiveStorages);
    }

    // Residual blocks of norm, up, GELU, dropout and down. All gradients' bytes, and the peak of forward and backward.
    private (List<byte[]> Gradients, long Peak) Run(bool checkpoint)
    {
        using Variable x = Leaves.Single(_device, [Rows, Width], 1);
        Variable[][] weights = [.. Enumerable.Range(0, Blocks).Select(i => new[]
        {
            Leaves.Single(_device, [Width], (ulong)(10 * i) + 10),
            Leaves.Single(_device, [4 * Width, Width], (ulong)(10 * i) + 11),
            Leaves.Single(_device, [Width, 4 * Width], (ulong)(10 * i) + 12),
        })];
        _device.ResetPeak();
        using (var tape = new Tape())
        {
            Variable h = tape.Scale(x, 1);
            for (int i = 0; i < Blocks; i++)
            {
                int block = i;
                using Variable input = h;
                h = checkpoint ? tape.Checkpoint(input, (t, v) => Block(t, v, weights[block], block)) : Block(tape, input, weights[i], i);
            }

            using (h)
            {
                tape.Backward(h, Tensor.From(
                    Array.ConvertAll(Leaves.Values(Rows * Width, 5), v => (float)v), [Rows, Width], _device));
            }
        }

        long peak = _device.PeakBytes;
        List<byte[]> gradients = [.. weights.SelectMany(w => w).Append(x).Select(v => Leaves.GradientBytes(v)!)];
        foreach (Variable weight in weights.SelectMany(w => w))
        {
            weight.Dispose();
        }

        return (gradients, peak);
    }

    private static Variable Block(Tape tape, Variable x, Variable[] weights, int site)
    {
        using Variable normed = tape.RmsNorm(x, weights[0], 1e-5f);
        using Variable up = tape.Linear(normed, weights[1], null);
        using Variable bent = tape.Gelu(up, tanh: true);
        using Variable dropped = tape.Dropout(bent, 0.2f, new DropoutKey(1, (ulong)site));
        using Variable down = tape.Linear(dropped, weights[2], null);
        return tape.Add(x, down);
    }
}

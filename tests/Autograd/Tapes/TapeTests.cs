using Engine.Tensors;

namespace Engine.Autograd.Tests.Tapes;

/// <summary>What the tape keeps, frees, shares and refuses. Every test counts what is left on a device that it counts on.</summary>
public sealed class TapeTests : IDisposable
{
    private readonly CountedDevice _device = new();

    public void Dispose() => Assert.Equal(0, _device.LiveStorages);

    [Fact]
    public void A_frozen_weight_costs_no_node_and_its_input_is_not_kept()
    {
        using Variable x = Leaves.Single(_device, [64, 4], 1);
        using Variable frozen = Leaves.Single(_device, [3, 4], 2, requiresGrad: false);
        using Variable trained = Leaves.Single(_device, [3, 4], 3);
        using (var tape = new Tape())
        using (Variable y = tape.Linear(x, frozen, null))
        {
            Assert.Equal(1, tape.Count);
            Assert.Equal(frozen.Value.ByteLength, tape.SavedBytes);
        }

        x.RequiresGrad = false;
        using (var tape = new Tape())
        using (Variable y = tape.Linear(x, frozen, null))
        using (Variable bent = tape.Silu(y))
        {
            Assert.Equal(0, tape.Count);
            using Variable z = tape.Linear(x, trained, null);
            Assert.Equal(1, tape.Count);
            Assert.Equal(x.Value.ByteLength, tape.SavedBytes);
        }
    }

    [Fact]
    public void Leaves_that_share_an_upstream_gradient_do_not_write_into_each_other()
    {
        using Variable a = Leaves.Single(_device, [3, 5], 1);
        using Variable b = Leaves.Single(_device, [3, 5], 2);
        float[] upstream = [.. Enumerable.Range(1, 15).Select(i => (float)i)];
        Backward(t => t.Add(a, b), upstream);
        Assert.Same(a.Gradient!.Storage, b.Gradient!.Storage);

        // Only a gets more: b must keep what it has.
        Backward(t => t.Scale(a, 3), upstream);
        Assert.Equal(upstream.Select(u => 4 * u), a.Gradient!.ToArray<float>());
        Assert.Equal(upstream, b.Gradient!.ToArray<float>());

        // The same through a kernel that accumulates in place.
        a.ClearGradient();
        b.ClearGradient();
        Backward(t => t.Add(a, b), upstream);
        using Tensor rows = Tensor.From([2], [1], _device);
        Backward(t => t.GatherRows(b, rows), [1, 1, 1, 1, 1]);
        Assert.Equal(upstream, a.Gradient!.ToArray<float>());
        Assert.Equal(upstream.Select((u, i) => i >= 10 ? u + 1 : u), b.Gradient!.ToArray<float>());

        // And where it would set a gradient that nobody has begun.
        using Tensor places = Tensor.From([-1, -1, 0], [3], _device);
        Backward(t => t.GatherRows(b, rows, places), [1, 1, 1, 1, 1]);
        Assert.Equal(upstream.Select((u, i) => i >= 10 ? u + 2 : u), b.Gradient!.ToArray<float>());
        b.ClearGradient();
        Backward(t => t.GatherRows(b, rows, places), [1, 1, 1, 1, 1]);
        Assert.Equal(upstream.Select((_, i) => i >= 10 ? 1f : 0), b.Gradient!.ToArray<float>());
    }

    [Fact]
    public void A_residual_and_its_branch_sum_whichever_comes_first()
    {
        // The product writes into the gradient that the sum has left, shared with the other branch.
        using Variable x = Leaves.Single(_device, [2, 3], 1);
        using Variable w = new(Tensor.From([2f, 0, 0, 0, 2, 0, 0, 0, 2], [3, 3], _device));
        using Variable other = Leaves.Single(_device, [2, 3], 3);
        Backward(
            t =>
            {
                using Variable branch = t.Linear(x, w, null);
                using Variable inner = t.Add(x, branch);
                return t.Add(inner, other);
            },
            [1, 2, 3, 4, 5, 6]);
        Assert.Equal([3, 6, 9, 12, 15, 18], x.Gradient!.ToArray<float>());
        Assert.Equal([1, 2, 3, 4, 5, 6], other.Gradient!.ToArray<float>());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_gradient_of_a_residual_stream_stays_in_one_buffer(bool checkpoint)
    {
        using Variable x = Leaves.Single(_device, [4, 8], 1);
        using Variable first = Leaves.Single(_device, [4, 8], 2, requiresGrad: false);
        using Variable scale = Leaves.Single(_device, [8], 3);
        using Variable w = Leaves.Single(_device, [8, 8], 4);
        Variable Block(Tape tape, Variable h)
        {
            (Variable sum, Variable normed) = tape.AddRmsNorm(h, first, scale, 1e-5f);
            using (sum)
            using (normed)
            using (Variable branch = tape.Linear(normed, w, null))
            {
                return tape.Add(sum, branch);
            }
        }

        using var tape = new Tape();
        Variable y;
        using (Variable inner = checkpoint ? tape.Checkpoint(x, Block) : Block(tape, x))
        {
            y = checkpoint ? tape.Checkpoint(inner, Block) : Block(tape, inner);
        }

        Tensor upstream = Tensor.From(Array.ConvertAll(Leaves.Values(32, 5), v => (float)v), [4, 8], _device);
        Storage buffer = upstream.Storage;
        y.Dispose();
        tape.Backward(y, upstream);
        Assert.Same(buffer, x.Gradient!.Storage);
    }

    [Fact]
    public void Gradients_accumulate_over_backward_passes_until_they_are_cleared()
    {
        using Variable x = Leaves.Single(_device, [2, 2], 1);
        for (int pass = 1; pass <= 3; pass++)
        {
            Backward(t => t.Scale(x, 0.5f), [1, 2, 3, 4]);
            Assert.Equal([0.5f * pass, 1f * pass, 1.5f * pass, 2f * pass], x.Gradient!.ToArray<float>());
        }

        x.ClearGradient();
        Assert.Null(x.Gradient);
        Backward(t => t.Scale(x, 0.5f), [1, 2, 3, 4]);
        Assert.Equal([0.5f, 1, 1.5f, 2], x.Gradient!.ToArray<float>());
    }

    [Fact]
    public void Branches_that_lead_nowhere_get_no_gradient_and_are_freed()
    {
        using Variable x = Leaves.Single(_device, [2, 2], 1);
        using Variable unused = Leaves.Single(_device, [2, 2], 2);
        Backward(
            t =>
            {
                t.Silu(unused).Dispose();
                return t.Scale(x, 2);
            },
            [1, 1, 1, 1]);
        Assert.NotNull(x.Gradient);
        Assert.Null(unused.Gradient);
    }

    [Fact]
    public void A_constant_result_takes_a_gradient_and_forgets_it()
    {
        using Variable x = Leaves.Single(_device, [2, 2], 1, requiresGrad: false);
        Backward(t => t.Silu(x), [1, 1, 1, 1]);
        Assert.Null(x.Gradient);
    }

    [Fact]
    public void A_gradient_of_another_shape_or_dtype_is_refused()
    {
        using Variable x = Leaves.Single(_device, [2, 3], 1);
        using var tape = new Tape();
        using Variable y = tape.Silu(x);
        using Tensor turned = Tensor.Zeros([3, 2], DType.F32, _device);
        using Tensor doubles = Tensor.Zeros([2, 3], DType.F64, _device);
        Assert.Throws<ArgumentException>(() => tape.Backward(y, turned));
        Assert.Throws<ArgumentException>(() => tape.Backward(y, doubles));
        Assert.Equal(1, tape.Count);
        Assert.Null(y.Gradient);
    }

    [Fact]
    public void A_tape_disposed_before_backward_frees_what_was_saved()
    {
        using Variable x = Leaves.Single(_device, [8, 8], 1);
        using Variable w = Leaves.Single(_device, [8], 2);
        long before = _device.LiveStorages;
        var tape = new Tape();
        Variable y = tape.RmsNorm(x, w, 1e-5f);
        Variable z = tape.Silu(y);
        y.Dispose();
        z.Dispose();
        Assert.True(_device.LiveStorages > before);
        Assert.True(tape.SavedBytes > 0);
        tape.Dispose();
        Assert.Equal(before, _device.LiveStorages);
        Assert.Equal(0, tape.SavedBytes);
        tape.Dispose();
    }

    [Fact]
    public void An_exception_in_backward_leaves_nothing_behind_once_the_tape_is_disposed()
    {
        using Variable x = Leaves.Single(_device, [2, 2], 1);
        long before = _device.LiveStorages;
        using (var tape = new Tape())
        {
            // Both y's sharers have been served by the time the failing op is reached, so gradients are under way.
            using Variable y = tape.Silu(x);
            using Variable failing = tape.Record(y.Value.Clone(), new FailingNode());
            using Variable sum = tape.Add(failing, y);
            Tensor upstream = Tensor.From([1f, 1, 1, 1], [2, 2], _device);
            Assert.Throws<InvalidOperationException>(() => tape.Backward(sum, upstream));
        }

        Assert.Null(x.Gradient);
        Assert.Equal(before, _device.LiveStorages);
    }

    [Fact]
    public void Replacing_a_value_frees_the_old_one()
    {
        using Variable x = Leaves.Single(_device, [2, 2], 1);
        x.Replace(Tensor.Zeros([2, 2], DType.F32, _device));
        Assert.Equal(1, _device.LiveStorages);
        x.Replace(x.Value);
        Assert.Equal(new float[4], x.Value.ToArray<float>());
    }

    private void Backward(Func<Tape, Variable> function, float[] upstream)
    {
        using var tape = new Tape();
        using Variable y = function(tape);
        tape.Backward(y, Tensor.From(upstream, y.Value.Shape, _device));
    }

    private sealed class FailingNode : Node
    {
        public override string Name => "failing";

        protected override void Backward(Tensor gradient) => throw new InvalidOperationException("as intended");
    }
}

using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// Activation checkpointing: runs <paramref name="block"/> without recording, keeps only its input, and runs it again
    /// with recording when backward arrives. The block must be a function of its input and of counter-based randomness,
    /// so that both runs agree bit for bit, and must not return its input itself. A block in which nothing is trained costs
    /// nothing in backward. Source: Chen et al., Training deep nets with sublinear memory cost.
    /// </summary>
    public static Variable Checkpoint(this Tape tape, Variable x, Func<Tape, Variable, Variable> block)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(block);
        if (!tape.IsRecording)
        {
            return block(tape, x);
        }

        using Tape silent = Tape.Inference();
        using Variable y = block(silent, x);
        Variable result = x.RequiresGrad || silent.MetTrainable
            ? tape.Record(y.Value.Share(), new CheckpointNode(x, block))
            : Tape.Constant(y.Value.Share());
        result.GradientBorder = y.GradientBorder;
        return result;
    }

    private sealed class CheckpointNode : Node
    {
        private readonly Variable _x;
        private readonly Tensor _savedX;
        private readonly Func<Tape, Variable, Variable> _block;

        public CheckpointNode(Variable x, Func<Tape, Variable, Variable> block)
        {
            _x = x;
            _savedX = Save(x.Value);
            _block = block;
        }

        public override string Name => "checkpoint";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient) => BackwardOwned(gradient.Share());

        protected internal override void BackwardOwned(Tensor gradient)
        {
            using var arrived = new Tentative();
            arrived.Add(gradient);
            using var tape = new Tape();
            using var x = new Variable(_savedX.Share(), _x.RequiresGrad);
            using Variable y = _block(tape, x);
            if (!y.RequiresGrad)
            {
                return;
            }

            // The block's residual stream goes on in this buffer.
            arrived.Keep();
            tape.Backward(y, gradient);
            if (x.TakeGradient() is { } dx)
            {
                _x.AccumulateGradient(dx);
            }
        }
    }
}

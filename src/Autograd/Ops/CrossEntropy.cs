using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// loss = gradScale·Σ_r −log softmax(logits[r])[labels[r]] over rows with a label. Shapes: logits [R,V], labels I32 [R]
    /// (−100: none), gradScale [1], losses [R] receives the unscaled loss of each row. With gradScale = 1/n the loss is the mean over n tokens.
    /// Backward: dLogits = gradScale·(softmax − onehot)·dLoss.
    /// </summary>
    public static Variable CrossEntropy(this Tape tape, Variable logits, Tensor labels, Tensor gradScale, Tensor losses)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(logits);
        bool needed = tape.Needs(logits);
        using var made = new Tentative();
        Tensor? dLogits = needed ? made.Add(logits.Value.EmptyLike()) : null;
        Kernels.CrossEntropy.Forward(logits.Value, labels, losses, dLogits, gradScale);
        Tensor loss = ScaledSum(losses, gradScale);
        made.Keep();
        return needed ? tape.Record(loss, new PrecomputedNode("cross_entropy", logits, dLogits!)) : Tape.Constant(loss);
    }

    /// <summary>
    /// The output head and the loss in one op, walking rows in chunks of <see cref="Kernels.CrossEntropy.ChunkRows"/> so that
    /// logits of the whole batch never exist: loss as in <see cref="CrossEntropy"/> with logits = x·Wᵀ, whose dtype is that of the
    /// product's operands (<see cref="MatMul.OperandType"/>; what PyTorch has in bf16 and f16) and whose place the gradient takes.
    /// Shapes: x [R,D], W [V,D], labels I32 [R], gradScale [1], losses [R].
    /// The gradients are formed chunk by chunk during forward: dX = dLogits·W, dW += dLogitsᵀ·x.
    /// Call it with rows that have labels only; rows labelled −100 cost as much as others.
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="x">The states.</param>
    /// <param name="weight">The head.</param>
    /// <param name="labels">One for each row.</param>
    /// <param name="gradScale">As in <see cref="CrossEntropy"/>.</param>
    /// <param name="losses">As in <see cref="CrossEntropy"/>.</param>
    /// <param name="inPlace">dX takes the place of x, which is used up: nobody else reads its values.</param>
    public static Variable HeadCrossEntropy(
        this Tape tape, Variable x, Variable weight, Tensor labels, Tensor gradScale, Tensor losses, bool inPlace = false)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(labels);
        ArgumentNullException.ThrowIfNull(losses);
        bool needed = tape.Needs(x, weight);
        int rows = x.Value.Shape[0];
        int vocabulary = weight.Value.Shape[0];
        int chunk = Math.Min(rows, Kernels.CrossEntropy.ChunkRows(x.Value.Device, vocabulary));
        DType single = StatisticsOf(x.Value);
        using var made = new Tentative();
        Tensor? dx = needed && x.RequiresGrad ? made.Add(inPlace ? x.Value.Share() : x.Value.EmptyLike()) : null;
        Tensor? dw = needed && weight.RequiresGrad ? made.Add(Tensor.Zeros(weight.Value.Shape, single, x.Value.Device)) : null;
        using (Tensor buffer = Tensor.Empty([chunk, PaddedColumns(vocabulary)], MatMul.OperandType(x.Value), x.Value.Device))
        {
            for (int start = 0; start < rows; start += chunk)
            {
                int count = Math.Min(chunk, rows - start);
                using Tensor xs = x.Value.Slice(0, start, count);
                using Tensor ls = labels.Slice(0, start, count);
                using Tensor os = losses.Slice(0, start, count);
                using Tensor logits = Corner(buffer, count, vocabulary);
                MatMul.Run(xs, false, weight.Value, true, logits);
                Kernels.CrossEntropy.Forward(logits, ls, os, needed ? logits : null, gradScale);
                if (dw is not null)
                {
                    MatMul.Run(logits, true, xs, false, dw, beta: 1);
                }

                if (dx is not null)
                {
                    using Tensor dxs = dx.Slice(0, start, count);
                    MatMul.Run(logits, false, weight.Value, false, dxs);
                }
            }
        }

        if (dw is not null && dw.DType != weight.Value.DType)
        {
            // Chunks add up in the precision of the losses and are rounded once.
            using Tensor sum = dw;
            dw = made.Replace(sum, weight.Value.EmptyLike());
            Cast.Run(sum, dw);
        }

        Tensor loss = ScaledSum(losses, gradScale);
        made.Keep();
        return needed ? tape.Record(loss, new HeadCrossEntropyNode(x, dx, weight, dw)) : Tape.Constant(loss);
    }

    // Rows begin at multiples of 16 bytes whatever the vocabulary: odd row strides cost matrix products their fast paths.
    private static int PaddedColumns(int columns) => checked((columns + 7) / 8 * 8);

    private static Tensor Corner(Tensor matrix, int rows, int columns)
    {
        using Tensor top = matrix.Slice(0, 0, rows);
        return top.Slice(1, 0, columns);
    }

    private static Tensor ScaledSum(Tensor losses, Tensor scale)
    {
        using var made = new Tentative();
        Tensor loss = made.Add(Tensor.Empty([1], losses.DType, losses.Device));
        Reduction.Sum(losses, 1, loss);
        Elementwise.Multiply(loss, scale, loss);
        made.Keep();
        return loss;
    }

    // The gradient is known since forward; backward multiplies it by the scalar gradient of the loss, which is nearly always 1.
    private static void PassOn(Variable input, Tensor precomputed, Variable loss, Tensor gradient)
    {
        if (!loss.HasUnitGradient)
        {
            float upstream = gradient.DType == DType.F64 ? (float)gradient.ToArray<double>()[0] : gradient.ToArray<float>()[0];
            Elementwise.Scale(precomputed, upstream, precomputed);
        }

        input.AccumulateGradient(precomputed.Share());
    }

    private sealed class PrecomputedNode : Node
    {
        private readonly Variable _input;
        private readonly Tensor _gradient;

        public PrecomputedNode(string name, Variable input, Tensor gradient)
        {
            Name = name;
            _input = input;
            _gradient = Keep(gradient);
        }

        public override string Name { get; }

        protected internal override void Backward(Tensor gradient) => PassOn(_input, _gradient, Output!, gradient);
    }

    private sealed class HeadCrossEntropyNode : Node
    {
        private readonly Variable _x;
        private readonly Variable _weight;
        private readonly Tensor? _dx;
        private readonly Tensor? _dw;

        public HeadCrossEntropyNode(Variable x, Tensor? dx, Variable weight, Tensor? dw)
        {
            _x = x;
            _weight = weight;
            _dx = dx is null ? null : Keep(dx);
            _dw = dw is null ? null : Keep(dw);
        }

        public override string Name => "head_cross_entropy";

        protected internal override void Backward(Tensor gradient)
        {
            if (_dx is not null)
            {
                PassOn(_x, _dx, Output!, gradient);
            }

            if (_dw is not null)
            {
                PassOn(_weight, _dw, Output!, gradient);
            }
        }
    }
}

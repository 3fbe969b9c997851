using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>y[n] = table[ids[n]]. Shapes: ids I32 [N], table [V,D], y [N,D]. Backward: dTable[ids[n]] += dY[n], in index order.</summary>
    public static Variable Embedding(this Tape tape, Tensor ids, Variable table)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(ids);
        ArgumentNullException.ThrowIfNull(table);
        Tensor y = Tensor.Empty([checked((int)ids.Elements), table.Value.Shape[1]], table.Value.DType, table.Value.Device);
        Kernels.Embedding.Forward(ids, table.Value, y);
        return tape.Needs(table) ? tape.Record(y, new EmbeddingNode(ids, table)) : Tape.Constant(y);
    }

    private sealed class EmbeddingNode : Node
    {
        private readonly Tensor _ids;
        private readonly Variable _table;

        public EmbeddingNode(Tensor ids, Variable table)
        {
            _ids = Save(ids);
            _table = table;
        }

        public override string Name => "embedding";

        protected internal override void Backward(Tensor gradient) =>
            Kernels.Embedding.Backward(_ids, gradient, _table.OpenGradientForAdd());
    }
}

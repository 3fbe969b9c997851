using System.Numerics;

namespace Engine.Kernels;

/// <content>What the backward pass keeps of one tile of queries.</content>
internal static unsafe partial class AttentionCpu
{
    // Reads queries and output gradients both ways round, lse, and δ = rowsum(dO∘o); clears the dq accumulator.
    private static void LoadTile<T>(
        in BackwardState<T> state, int batch, int head, int query, int queries, int padded, in BackwardTile<T> tile)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int dimension = state.Problem.Dimension;
        T scale = T.CreateTruncating(state.Problem.Scale);
        new Span<T>(tile.Q, 3 * Lanes * padded).Clear();
        new Span<T>(tile.Lse, 2 * Lanes).Clear();
        T* lse = state.Lse + ((((long)batch * state.Problem.Heads) + head) * state.Problem.Queries) + query;
        for (int i = 0; i < queries; i++)
        {
            T* q = tile.Q + (i * padded);
            T* source = state.Q.Rows.Read(state.Q.Offset(batch, query + i, head), dimension, q);
            Multiply(source, scale, q, dimension);

            T* gradient = tile.DO + (i * padded);
            source = state.DO.Rows.Read(state.DO.Offset(batch, query + i, head), dimension, gradient);
            if (source != gradient)
            {
                new ReadOnlySpan<T>(source, dimension).CopyTo(new Span<T>(gradient, dimension));
            }

            tile.Lse[i] = lse[i];
        }

        LoadDelta(in state, batch, head, query, queries, padded, in tile);
        LoadTransposed(FloatRows.Of(tile.Q), 0, padded, queries, dimension, T.One, tile.QTransposed, tile.Row);
        LoadTransposed(FloatRows.Of(tile.DO), 0, padded, queries, dimension, T.One, tile.DOTransposed, tile.Row);
    }

    // δ is summed in the order in which TileProduct sums dp, so that a query that sees one key (o = v) has ds = 0 exactly.
    // Four rows at a time hide the latency of the chains.
    private static void LoadDelta<T>(
        in BackwardState<T> state, int batch, int head, int query, int queries, int padded, in BackwardTile<T> tile)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int dimension = state.Problem.Dimension;
        for (int i = 0; i < queries; i += 4)
        {
            // Rows beyond the last query repeat it; their lanes are not used.
            T* o0 = Output(in state, i, 0, in tile);
            T* o1 = Output(in state, i + 1, 1, in tile);
            T* o2 = Output(in state, i + 2, 2, in tile);
            T* o3 = Output(in state, i + 3, 3, in tile);
            T* g = tile.DO + (i * padded);
            T s0 = T.Zero, s1 = T.Zero, s2 = T.Zero, s3 = T.Zero;
            for (int d = 0; d < dimension; d++, g++)
            {
                s0 = T.FusedMultiplyAdd(g[0], o0[d], s0);
                s1 = T.FusedMultiplyAdd(g[padded], o1[d], s1);
                s2 = T.FusedMultiplyAdd(g[2 * padded], o2[d], s2);
                s3 = T.FusedMultiplyAdd(g[3 * padded], o3[d], s3);
            }

            (tile.Delta[i], tile.Delta[i + 1], tile.Delta[i + 2], tile.Delta[i + 3]) = (s0, s1, s2, s3);
        }

        T* Output(in BackwardState<T> state, int i, int slot, in BackwardTile<T> tile) =>
            state.O.Rows.Read(
                state.O.Offset(batch, query + Math.Min(i, queries - 1), head), dimension, tile.Row + (slot * padded));
    }

    /// <summary>The working set of one tile; Q holds the scaled queries, Q, DO and DQ are neighbours.</summary>
    private readonly struct BackwardTile<T>(T* pointer, int dimension, int padded)
        where T : unmanaged
    {
        public T* P => pointer;

        public T* DS => pointer + (BackwardBlock * Lanes);

        public T* QTransposed => pointer + (2 * BackwardBlock * Lanes);

        public T* DOTransposed => QTransposed + (dimension * Lanes);

        public T* Q => DOTransposed + (dimension * Lanes);

        public T* DO => Q + (Lanes * padded);

        public T* DQ => DO + (Lanes * padded);

        public T* Lse => DQ + (Lanes * padded);

        public T* Delta => Lse + Lanes;

        public T* Low => Delta + Lanes;

        public T* High => Low + Lanes;

        public T* Row => High + Lanes;

        public static long Size(int dimension, int padded) =>
            (2L * BackwardBlock * Lanes) + (2L * dimension * Lanes) + (3L * Lanes * padded) + (4 * Lanes) + (4 * padded);
    }
}

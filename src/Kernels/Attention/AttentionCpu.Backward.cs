using System.Numerics;
using System.Runtime.Intrinsics;
using Engine.Kernels.Cpu;
using Engine.Tensors;
using static Engine.Kernels.Cpu.Vector512Math;

namespace Engine.Kernels;

/// <content>
/// The backward pass. Where the accumulators of all keys of a head fit the second-level cache, one task computes dq, dk
/// and dv of a key/value head together (five tile products); otherwise one set of tasks computes dk and dv by key chunk
/// and another dq by query chunk (seven tile products). Either way each sum runs in the same order.
/// </content>
internal static unsafe partial class AttentionCpu
{
    private const int BackwardBlock = 64;
    private const int SplitKeys = 256;

    // dk and dv of so many elements each: 512 KiB in single precision.
    private const long FusedElements = 1 << 16;

    private static void Backward<T>(
        Tensor dO, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale, Tensor dq, Tensor dk, Tensor dv)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var state = new BackwardState<T>
        {
            Problem = new Problem(q, k, keyStart, 0, scale),
            Q = new HeadRows(q),
            K = new HeadRows(k),
            V = new HeadRows(v),
            O = new HeadRows(o),
            DO = new HeadRows(dO),
            DQ = new HeadRows(dq),
            DK = new HeadRows(dk),
            DV = new HeadRows(dv),
            Lse = (T*)lse.Pointer,
        };
        int length = state.Problem.Keys;
        int heads = state.Problem.Batch * state.Problem.KeyHeads;
        if (k.Elements == 0)
        {
            return;
        }

        if ((long)length * TileProduct.Padded<T>(state.Problem.Dimension) <= FusedElements)
        {
            CpuParallel.For(heads, state, static (s, index) =>
                BackwardTask(in s, index, 0, s.Problem.Keys, 0, s.Problem.Queries, keyGradients: true, queryGradients: true));
            return;
        }

        int keyChunks = (length + SplitKeys - 1) / SplitKeys;
        CpuParallel.For(checked(heads * keyChunks), state, static (s, index) =>
        {
            int pairs = s.Problem.Batch * s.Problem.KeyHeads;
            int begin = index / pairs * SplitKeys;
            int end = Math.Min(s.Problem.Keys, begin + SplitKeys);

            // Earlier queries see none of these keys.
            BackwardTask(in s, index % pairs, begin, end, begin, s.Problem.Queries, keyGradients: true, queryGradients: false);
        });
        CpuParallel.For(checked(heads * keyChunks), state, static (s, index) =>
        {
            int pairs = s.Problem.Batch * s.Problem.KeyHeads;
            int chunks = (s.Problem.Queries + SplitKeys - 1) / SplitKeys;
            int begin = (chunks - 1 - (index / pairs)) * SplitKeys;
            int end = Math.Min(s.Problem.Queries, begin + SplitKeys);
            BackwardTask(in s, index % pairs, 0, end, begin, end, keyGradients: false, queryGradients: true);
        });
    }

    // One key/value head: the keys [keyBegin, keyEnd) and the queries [queryBegin, queryEnd) of its query heads.
    // queryBegin is a multiple of Lanes and keyBegin of BackwardBlock, so that all partitions make the same tiles.
    private static void BackwardTask<T>(
        in BackwardState<T> state, int pair, int keyBegin, int keyEnd, int queryBegin, int queryEnd, bool keyGradients, bool queryGradients)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Problem problem = ref state.Problem;
        int batch = pair / problem.KeyHeads;
        int keyHead = pair % problem.KeyHeads;
        int dimension = problem.Dimension;
        int padded = TileProduct.Padded<T>(dimension);
        int keyCount = keyEnd - keyBegin;

        using ScratchBuffer<T> keyBuffer = Scratch.Rent<T>((long)keyCount * padded);
        using ScratchBuffer<T> valueBuffer = Scratch.Rent<T>((long)keyCount * padded);
        using ScratchBuffer<T> gradientBuffer = Scratch.Rent<T>(keyGradients ? 2L * keyCount * padded : 0);
        using ScratchBuffer<T> tileBuffer = Scratch.Rent<T>(BackwardTile<T>.Size(dimension, padded));
        var tile = new BackwardTile<T>(tileBuffer.Pointer, dimension, padded);
        long keyStride = state.K.Row;
        long valueStride = state.V.Row;
        T* k = LoadRows(
            state.K.Rows, state.K.Offset(batch, keyBegin, keyHead), ref keyStride, keyCount, dimension, padded, true, keyBuffer.Pointer);
        T* v = LoadRows(
            state.V.Rows, state.V.Offset(batch, keyBegin, keyHead), ref valueStride, keyCount, dimension, padded, false, valueBuffer.Pointer);
        T* dk = gradientBuffer.Pointer;
        T* dv = dk + ((long)keyCount * padded);
        if (keyGradients)
        {
            new Span<T>(dk, 2 * keyCount * padded).Clear();
        }

        for (int g = 0; g < problem.Group; g++)
        {
            int head = (keyHead * problem.Group) + g;
            for (int query = queryBegin; query < queryEnd; query += Lanes)
            {
                int queries = Math.Min(Lanes, queryEnd - query);
                var range = new KeyRange(in problem, batch, query, queries);
                int begin = Math.Max(keyBegin, range.Begin);
                int end = Math.Min(keyEnd, range.End);
                if (begin >= end && !queryGradients)
                {
                    continue;
                }

                LoadTile(in state, batch, head, query, queries, padded, tile);
                for (int block = begin / BackwardBlock * BackwardBlock; block < end; block += BackwardBlock)
                {
                    int from = Math.Max(block, begin);
                    int count = Math.Min(block + BackwardBlock, end) - from;
                    long at = from - keyBegin;
                    ScoreGradients(
                        in problem, in range, batch, query, queries, from, count, k + (at * keyStride), keyStride,
                        v + (at * valueStride), valueStride, tile);
                    int depth = RoundUp(queries, 4);
                    if (keyGradients)
                    {
                        // dv += p·dO, dk += ds·(scale·q)
                        TileProduct.Run(
                            tile.P, Lanes, 1, tile.DO, padded, dv + (at * padded), padded, count, padded, depth, accumulate: true);
                        TileProduct.Run(
                            tile.DS, Lanes, 1, tile.Q, padded, dk + (at * padded), padded, count, padded, depth, accumulate: true);
                    }

                    if (queryGradients)
                    {
                        TileProduct.Run(
                            tile.DS, 1, Lanes, k + (at * keyStride), (nint)keyStride, tile.DQ, padded, depth, padded, count,
                            accumulate: true);
                    }
                }

                if (queryGradients)
                {
                    WriteRows(state.DQ, batch, query, head, tile.DQ, queries, dimension, padded, T.CreateTruncating(problem.Scale));
                }
            }
        }

        if (keyGradients)
        {
            WriteRows(state.DK, batch, keyBegin, keyHead, dk, keyCount, dimension, padded, T.One);
            WriteRows(state.DV, batch, keyBegin, keyHead, dv, keyCount, dimension, padded, T.One);
        }
    }

    // sᵀ = k·(scale·q)ᵀ and dpᵀ = v·dOᵀ; then P = exp(s − lse), DS = P·(dp − δ), both 0 where the query does not see the key.
    private static void ScoreGradients<T>(
        in Problem problem, in KeyRange range, int batch, int query, int queries, int from, int count, T* k, long keyStride, T* v,
        long valueStride, in BackwardTile<T> tile)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int lanes = TileProduct.Padded<T>(queries);
        TileProduct.Run(
            k, (nint)keyStride, 1, tile.QTransposed, Lanes, tile.P, Lanes, count, lanes, problem.Dimension, accumulate: false);
        TileProduct.Run(
            v, (nint)valueStride, 1, tile.DOTransposed, Lanes, tile.DS, Lanes, count, lanes, problem.Dimension, accumulate: false);
        bool masked = !range.CoversAll(from, from + count);
        if (masked)
        {
            LaneBounds(in problem, batch, query, queries, from, count, tile.Low, tile.High);
        }

        for (int c = 0; c < lanes; c += Vector512<T>.Count)
        {
            Vector512<T> lse = Vector512.Load(tile.Lse + c);
            Vector512<T> delta = Vector512.Load(tile.Delta + c);
            if (!masked)
            {
                for (int j = c; j < c + (count * Lanes); j += Lanes)
                {
                    Vector512<T> p = Exp(Vector512.Load(tile.P + j) - lse);
                    p.Store(tile.P + j);
                    (p * (Vector512.Load(tile.DS + j) - delta)).Store(tile.DS + j);
                }

                continue;
            }

            Vector512<T> first = Vector512.Load(tile.Low + c);
            Vector512<T> last = Vector512.Load(tile.High + c);
            Vector512<T> key = Vector512<T>.Zero;
            for (int j = c; j < c + (count * Lanes); j += Lanes)
            {
                Vector512<T> visible = Vector512.GreaterThanOrEqual(key, first) & Vector512.LessThanOrEqual(key, last);
                Vector512<T> p = Exp(Vector512.Load(tile.P + j) - lse) & visible;
                p.Store(tile.P + j);
                (p * (Vector512.Load(tile.DS + j) - delta)).Store(tile.DS + j);
                key += Vector512<T>.One;
            }
        }
    }

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

    private static void WriteRows<T>(
        in HeadRows to, int batch, int position, int head, T* rows, int count, int dimension, int padded, T factor)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (int i = 0; i < count; i++)
        {
            T* row = rows + ((long)i * padded);
            if (factor != T.One)
            {
                Multiply(row, factor, row, dimension);
            }

            to.Rows.Write(row, to.Offset(batch, position + i, head), dimension);
        }
    }

    private struct BackwardState<T>
        where T : unmanaged
    {
        public Problem Problem;
        public HeadRows Q;
        public HeadRows K;
        public HeadRows V;
        public HeadRows O;
        public HeadRows DO;
        public HeadRows DQ;
        public HeadRows DK;
        public HeadRows DV;
        public T* Lse;
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

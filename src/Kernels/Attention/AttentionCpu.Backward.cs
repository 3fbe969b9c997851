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
}

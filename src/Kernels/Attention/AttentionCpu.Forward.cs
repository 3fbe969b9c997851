using System.Numerics;
using System.Runtime.Intrinsics;
using Engine.Kernels.Cpu;
using Engine.Tensors;
using static Engine.Kernels.Cpu.Vector512Math;

namespace Engine.Kernels;

/// <content>The forward pass for several queries.</content>
internal static unsafe partial class AttentionCpu
{
    private static void Forward<T>(
        Tensor q, Tensor k, Tensor v, Tensor keyStart, int queryOffset, float scale, Tensor o, Tensor? lse)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var problem = new Problem(q, k, keyStart, queryOffset, scale);
        if (q.Elements == 0)
        {
            return;
        }

        var state = new ForwardState<T>
        {
            Problem = problem,
            Q = new HeadRows(q),
            K = new HeadRows(k),
            V = new HeadRows(v),
            O = new HeadRows(o),
            Lse = lse is null ? null : (T*)lse.Pointer,

            // About eight tiles share what is read of K and V.
            Chunk = Math.Clamp(8 / problem.Group, 1, 4) * Lanes,
        };
        if (problem.Queries <= MaxDecodeQueries)
        {
            CpuParallel.For(problem.Batch * problem.KeyHeads, state, static (s, index) => DecodeTask(in s, index));
            return;
        }

        int chunks = (problem.Queries + state.Chunk - 1) / state.Chunk;
        CpuParallel.For(checked(chunks * problem.Batch * problem.KeyHeads), state, static (s, index) => ForwardTask(in s, index));
    }

    // One chunk of queries of all heads that share a key/value head.
    private static void ForwardTask<T>(in ForwardState<T> state, int index)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Problem problem = ref state.Problem;
        int pairs = problem.Batch * problem.KeyHeads;
        int chunks = (problem.Queries + state.Chunk - 1) / state.Chunk;

        // The last queries see the most keys: their tasks come first.
        int query = (chunks - 1 - (index / pairs)) * state.Chunk;
        int batch = index % pairs / problem.KeyHeads;
        int keyHead = index % pairs % problem.KeyHeads;
        int queries = Math.Min(state.Chunk, problem.Queries - query);
        int queryTiles = (queries + Lanes - 1) / Lanes;
        int tiles = queryTiles * problem.Group;
        int dimension = problem.Dimension;
        int padded = TileProduct.Padded<T>(dimension);
        int keyBlock = KeyBlock(dimension);

        int tileSize = (Lanes * dimension) + (Lanes * padded) + (2 * Lanes);
        using ScratchBuffer<T> tileBuffer = Scratch.Rent<T>((long)tiles * tileSize);
        using ScratchBuffer<T> keyBuffer = Scratch.Rent<T>((2L * keyBlock * padded) + (4 * dimension));
        using ScratchBuffer<T> scoreBuffer = Scratch.Rent<T>(((long)keyBlock * Lanes) + (3 * Lanes));
        T* keys = keyBuffer.Pointer;
        T* values = keys + ((long)keyBlock * padded);
        T* rowScratch = values + ((long)keyBlock * padded);

        Span<KeyRange> ranges = stackalloc KeyRange[queryTiles];
        int begin = int.MaxValue;
        int end = 0;
        for (int t = 0; t < queryTiles; t++)
        {
            ranges[t] = new KeyRange(in problem, batch, query + (t * Lanes), Math.Min(Lanes, queries - (t * Lanes)));
            begin = Math.Min(begin, ranges[t].Begin);
            end = Math.Max(end, ranges[t].End);
        }

        for (int t = 0; t < tiles; t++)
        {
            var tile = new ForwardTile<T>(tileBuffer.Pointer + ((long)t * tileSize), dimension, padded);
            int first = query + (t % queryTiles * Lanes);
            int head = (keyHead * problem.Group) + (t / queryTiles);
            LoadTransposed(
                state.Q.Rows, state.Q.Offset(batch, first, head), state.Q.Row, Math.Min(Lanes, query + queries - first), dimension,
                T.CreateTruncating(problem.Scale), tile.Queries, rowScratch);
            new Span<T>(tile.Output, Lanes * padded).Clear();
            new Span<T>(tile.Maximum, Lanes).Fill(T.NegativeInfinity);
            new Span<T>(tile.Sum, Lanes).Clear();
        }

        for (int block = begin / keyBlock * keyBlock; block < end; block += keyBlock)
        {
            int from = Math.Max(block, begin);
            int to = Math.Min(block + keyBlock, end);
            long keyStride = state.K.Row;
            long valueStride = state.V.Row;
            T* k = LoadRows(
                state.K.Rows, state.K.Offset(batch, from, keyHead), ref keyStride, to - from, dimension, padded, false, keys);
            T* v = LoadRows(
                state.V.Rows, state.V.Offset(batch, from, keyHead), ref valueStride, to - from, dimension, padded, true, values);
            for (int t = 0; t < tiles; t++)
            {
                KeyRange range = ranges[t % queryTiles];
                int tileFrom = Math.Max(from, range.Begin);
                int tileTo = Math.Min(to, range.End);
                int count = tileTo - tileFrom;
                if (count <= 0)
                {
                    continue;
                }

                var tile = new ForwardTile<T>(tileBuffer.Pointer + ((long)t * tileSize), dimension, padded);
                int first = query + (t % queryTiles * Lanes);
                int tileQueries = Math.Min(Lanes, query + queries - first);
                int lanes = TileProduct.Padded<T>(tileQueries);
                T* scores = scoreBuffer.Pointer;
                TileProduct.Run(
                    k + ((tileFrom - from) * keyStride), (nint)keyStride, 1, tile.Queries, Lanes, scores, Lanes,
                    count, lanes, dimension, accumulate: false);
                if (!range.CoversAll(tileFrom, tileTo))
                {
                    T* low = scores + ((long)keyBlock * Lanes);
                    LaneBounds(in problem, batch, first, tileQueries, tileFrom, count, low, low + Lanes);
                    MaskScores(scores, count, lanes, low, low + Lanes);
                }

                T* correction = scores + ((long)keyBlock * Lanes) + (2 * Lanes);
                OnlineSoftmax(scores, count, lanes, tile.Maximum, tile.Sum, correction);
                Rescale(tile.Output, padded, tileQueries, correction);
                TileProduct.Run(
                    scores, 1, Lanes, v + ((tileFrom - from) * valueStride), (nint)valueStride, tile.Output, padded,
                    RoundUp(tileQueries, 4), padded, count, accumulate: true);
            }
        }

        for (int t = 0; t < tiles; t++)
        {
            var tile = new ForwardTile<T>(tileBuffer.Pointer + ((long)t * tileSize), dimension, padded);
            int first = query + (t % queryTiles * Lanes);
            int head = (keyHead * problem.Group) + (t / queryTiles);
            int count = Math.Min(Lanes, query + queries - first);
            for (int i = 0; i < count; i++)
            {
                Finish(in state, batch, head, first + i, tile.Output + ((long)i * padded), tile.Maximum[i], tile.Sum[i]);
            }
        }
    }

    // Divides by the softmax denominator and writes one row of o and its lse.
    private static void Finish<T>(in ForwardState<T> state, int batch, int head, int query, T* row, T maximum, T sum)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        T inverse = sum == T.Zero ? T.Zero : T.One / sum;
        int dimension = state.Problem.Dimension;
        Multiply(row, inverse, row, dimension);

        state.O.Rows.Write(row, state.O.Offset(batch, query, head), dimension);
        if (state.Lse != null)
        {
            state.Lse[(((long)batch * state.Problem.Heads) + head) * state.Problem.Queries + query] =
                sum == T.Zero ? T.NegativeInfinity : maximum + T.Log(sum);
        }
    }

    // Keys and values of a block are read once for each tile: 128 of them fit the first-level cache for small heads.
    private static int KeyBlock(int dimension) => dimension <= 64 ? 128 : 64;

    /// <summary>Scores outside [low, high] of their lane become −∞; row j of the tile is relative key j.</summary>
    private static void MaskScores<T>(T* scores, int count, int lanes, T* low, T* high)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (int c = 0; c < lanes; c += Vector512<T>.Count)
        {
            Vector512<T> first = Vector512.Load(low + c);
            Vector512<T> last = Vector512.Load(high + c);
            Vector512<T> key = Vector512<T>.Zero;
            for (T* s = scores + c; s < scores + ((long)count * Lanes); s += Lanes)
            {
                Vector512<T> visible = Vector512.GreaterThanOrEqual(key, first) & Vector512.LessThanOrEqual(key, last);
                Vector512.ConditionalSelect(visible, Vector512.Load(s), Vector512.Create(T.NegativeInfinity)).Store(s);
                key += Vector512<T>.One;
            }
        }
    }

    /// <summary>
    /// One step of the online softmax: with m′ = max(m, max_j s_j), replaces s_j by exp(s_j − m′), l by
    /// l·exp(m − m′) + Σ_j exp(s_j − m′) and m by m′; <paramref name="correction"/> receives exp(m − m′) per lane.
    /// </summary>
    private static void OnlineSoftmax<T>(T* scores, int count, int lanes, T* maximum, T* sum, T* correction)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        T* end = scores + ((long)count * Lanes);
        for (int c = 0; c < lanes; c += Vector512<T>.Count)
        {
            Vector512<T> old = Vector512.Load(maximum + c);
            Vector512<T> m0 = old;
            Vector512<T> m1 = old;
            T* s = scores + c;
            for (; s + Lanes < end; s += 2 * Lanes)
            {
                m0 = Vector512.MaxNative(m0, Vector512.Load(s));
                m1 = Vector512.MaxNative(m1, Vector512.Load(s + Lanes));
            }

            if (s < end)
            {
                m0 = Vector512.MaxNative(m0, Vector512.Load(s));
            }

            m0 = Vector512.MaxNative(m0, m1);
            m0.Store(maximum + c);

            // While a lane has seen no key its maximum is −∞, and −∞ − (−∞) is NaN: subtract 0 instead.
            Vector512<T> shift = Vector512.ConditionalSelect(
                Vector512.Equals(m0, Vector512.Create(T.NegativeInfinity)), Vector512<T>.Zero, m0);
            Vector512<T> factor = Exp(old - shift);
            factor.Store(correction + c);
            Vector512<T> total = Vector512.Load(sum + c) * factor;
            for (s = scores + c; s < end; s += Lanes)
            {
                Vector512<T> p = Exp(Vector512.Load(s) - shift);
                p.Store(s);
                total += p;
            }

            total.Store(sum + c);
        }
    }

    private static void Rescale<T>(T* output, int padded, int rows, T* correction)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (int i = 0; i < rows; i++)
        {
            if (correction[i] == T.One)
            {
                continue;
            }

            Vector512<T> factor = Vector512.Create(correction[i]);
            T* row = output + ((long)i * padded);
            for (int d = 0; d < padded; d += Vector512<T>.Count)
            {
                (Vector512.Load(row + d) * factor).Store(row + d);
            }
        }
    }

    private struct ForwardState<T>
        where T : unmanaged
    {
        public Problem Problem;
        public HeadRows Q;
        public HeadRows K;
        public HeadRows V;
        public HeadRows O;
        public T* Lse;
        public int Chunk;
    }

    /// <summary>Scaled queries [D, Lanes], unnormalised output [Lanes, padded D], running maximum and sum of each lane.</summary>
    private readonly struct ForwardTile<T>(T* pointer, int dimension, int padded)
        where T : unmanaged
    {
        public T* Queries => pointer;

        public T* Output => pointer + (Lanes * dimension);

        public T* Maximum => pointer + (Lanes * (dimension + padded));

        public T* Sum => pointer + (Lanes * (dimension + padded + 1));
    }
}

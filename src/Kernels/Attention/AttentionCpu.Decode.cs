using System.Numerics;
using System.Runtime.Intrinsics;
using Engine.Tensors;
using static Engine.Kernels.Cpu.Vector512Math;

namespace Engine.Kernels;

/// <content>The forward pass for a few queries, as when text is generated token by token: dot products along D.</content>
internal static unsafe partial class AttentionCpu
{
    /// <summary>Up to here a tile would leave most of its lanes empty.</summary>
    private const int MaxDecodeQueries = 2;

    private const int DecodeBlock = 128;

    /// <summary>Computes o over the keys held; all arguments but the length have been checked.</summary>
    public static void Decode(Tensor q, Tensor k, Tensor v, Tensor keyStart, Tensor length, float scale, Tensor o)
    {
        int keys = *(int*)length.Pointer;
        if (keys < 1 || keys > k.Shape[1])
        {
            throw new ArgumentOutOfRangeException(
                nameof(length), keys, $"Attention.Decode: the cache holds from 1 to {k.Shape[1]} keys");
        }

        using Tensor heldKeys = k.Slice(1, 0, keys);
        using Tensor heldValues = v.Slice(1, 0, keys);
        Forward(q, heldKeys, heldValues, keyStart, keys - 1, scale, o, lse: null);
    }

    // All queries of the heads that share a key/value head; keys and values are converted once for all of them.
    private static void DecodeTask<T>(in ForwardState<T> state, int index)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ref readonly Problem problem = ref state.Problem;
        int batch = index / problem.KeyHeads;
        int keyHead = index % problem.KeyHeads;
        int dimension = problem.Dimension;
        int padded = TileProduct.Padded<T>(dimension);
        int rows = problem.Group * problem.Queries;

        using ScratchBuffer<T> rowBuffer = Scratch.Rent<T>((2L * rows * padded) + (2 * rows) + padded);
        using ScratchBuffer<T> keyBuffer = Scratch.Rent<T>((2L * DecodeBlock * padded) + DecodeBlock);
        T* queries = rowBuffer.Pointer;
        T* outputs = queries + ((long)rows * padded);
        T* maxima = outputs + ((long)rows * padded);
        T* sums = maxima + rows;
        T* keys = keyBuffer.Pointer;
        T* values = keys + (DecodeBlock * padded);
        T* scores = values + (DecodeBlock * padded);

        var range = new KeyRange(in problem, batch, 0, problem.Queries);
        T scale = T.CreateTruncating(problem.Scale);
        new Span<T>(queries, 2 * rows * padded).Clear();
        for (int r = 0; r < rows; r++)
        {
            int head = (keyHead * problem.Group) + (r / problem.Queries);
            T* row = state.Q.Rows.Read(state.Q.Offset(batch, r % problem.Queries, head), dimension, sums + rows);
            for (int d = 0; d < dimension; d++)
            {
                queries[((long)r * padded) + d] = row[d] * scale;
            }

            maxima[r] = T.NegativeInfinity;
            sums[r] = T.Zero;
        }

        for (int block = range.Begin / DecodeBlock * DecodeBlock; block < range.End; block += DecodeBlock)
        {
            int from = Math.Max(block, range.Begin);
            int to = Math.Min(block + DecodeBlock, range.End);
            long keyStride = state.K.Row;
            long valueStride = state.V.Row;
            T* k = LoadRows(
                state.K.Rows, state.K.Offset(batch, from, keyHead), ref keyStride, to - from, dimension, padded, true, keys);
            T* v = LoadRows(
                state.V.Rows, state.V.Offset(batch, from, keyHead), ref valueStride, to - from, dimension, padded, true, values);
            for (int r = 0; r < rows; r++)
            {
                int query = r % problem.Queries;
                int first = Math.Max(from, problem.First(batch, query));
                int last = Math.Min(to, problem.QueryOffset + query + 1);
                if (first < last)
                {
                    DecodeRow(
                        queries + ((long)r * padded), k + ((first - from) * keyStride), keyStride, v + ((first - from) * valueStride),
                        valueStride, last - first, padded, scores, outputs + ((long)r * padded), ref maxima[r], ref sums[r]);
                }
            }
        }

        for (int r = 0; r < rows; r++)
        {
            Finish(
                in state, batch, (keyHead * problem.Group) + (r / problem.Queries), r % problem.Queries,
                outputs + ((long)r * padded), maxima[r], sums[r]);
        }
    }

    // One step of the online softmax for one query over `count` ≤ DecodeBlock keys.
    private static void DecodeRow<T>(
        T* query, T* k, long keyStride, T* v, long valueStride, int count, int padded, T* scores, T* output, ref T maximum, ref T sum)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int width = Vector512<T>.Count;
        T max = maximum;
        for (int j = 0; j < count; j++)
        {
            T* row = k + (j * keyStride);
            Vector512<T> dot = Vector512<T>.Zero;
            for (int d = 0; d < padded; d += width)
            {
                dot = Fma(Vector512.Load(query + d), Vector512.Load(row + d), dot);
            }

            T score = Vector512.Sum(dot);
            scores[j] = score;
            max = T.MaxNative(max, score);
        }

        // Lanes beyond the last key hold −∞, whose exponential is 0; DecodeBlock is a multiple of the vector.
        new Span<T>(scores + count, RoundUp(count, width) - count).Fill(T.NegativeInfinity);
        Vector512<T> shift = Vector512.Create(max);
        Vector512<T> total = Vector512<T>.Zero;
        for (int j = 0; j < count; j += width)
        {
            Vector512<T> p = Exp(Vector512.Load(scores + j) - shift);
            p.Store(scores + j);
            total += p;
        }

        T correction = Exp(Vector512.Create(maximum) - shift).ToScalar();
        sum = (sum * correction) + Vector512.Sum(total);
        maximum = max;
        Vector512<T> factor = Vector512.Create(correction);
        for (int d = 0; d < padded; d += width)
        {
            Vector512<T> sum0 = Vector512.Load(output + d) * factor;
            Vector512<T> sum1 = Vector512<T>.Zero;
            T* column = v + d;
            int j = 0;
            for (; j + 2 <= count; j += 2, column += 2 * valueStride)
            {
                sum0 = Fma(Vector512.Create(scores[j]), Vector512.Load(column), sum0);
                sum1 = Fma(Vector512.Create(scores[j + 1]), Vector512.Load(column + valueStride), sum1);
            }

            if (j < count)
            {
                sum0 = Fma(Vector512.Create(scores[j]), Vector512.Load(column), sum0);
            }

            (sum0 + sum1).Store(output + d);
        }
    }
}

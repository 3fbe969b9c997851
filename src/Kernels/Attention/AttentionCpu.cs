using System.Numerics;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Attention on the CPU. A tile is up to 32 queries of one head; its scores are computed transposed, sᵀ[key, query], so
/// that the softmax runs down the columns in SIMD lanes with no horizontal reduction, keys and values are used where
/// they lie (for f32 and f64), and only the queries are transposed.
/// </summary>
internal static unsafe partial class AttentionCpu
{
    /// <summary>Queries in a tile: the lanes of sᵀ.</summary>
    private const int Lanes = 32;

    /// <summary>Computes o and lse; the arguments have been checked.</summary>
    public static void Forward(
        Tensor q, Tensor k, Tensor v, Tensor keyStart, int queryOffset, float scale, Tensor o, Tensor? lse)
    {
        if (q.DType == DType.F64)
        {
            Forward<double>(q, k, v, keyStart, queryOffset, scale, o, lse);
        }
        else
        {
            Forward<float>(q, k, v, keyStart, queryOffset, scale, o, lse);
        }
    }

    /// <summary>Computes dq, dk and dv; the arguments have been checked.</summary>
    public static void Backward(
        Tensor dO, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale, Tensor dq, Tensor dk, Tensor dv)
    {
        if (q.DType == DType.F64)
        {
            Backward<double>(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv);
        }
        else
        {
            Backward<float>(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv);
        }
    }

    private static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;

    /// <summary>A [B, T, heads, D] tensor: strides in elements.</summary>
    private readonly struct HeadRows(Tensor tensor)
    {
        private readonly long _batch = tensor.Strides[0];
        private readonly long _head = tensor.Strides[2];

        public FloatRows Rows { get; } = new(tensor);

        /// <summary>Elements between neighbouring positions.</summary>
        public long Row { get; } = tensor.Strides[1];

        public long Offset(int batch, long position, int head) => (batch * _batch) + (position * Row) + (head * _head);
    }

    /// <summary>What all tasks share.</summary>
    private readonly struct Problem(Tensor q, Tensor k, Tensor keyStart, int queryOffset, float scale)
    {
        public readonly int Batch = q.Shape[0];
        public readonly int Queries = q.Shape[1];
        public readonly int Heads = q.Shape[2];
        public readonly int Dimension = q.Shape[3];
        public readonly int Keys = k.Shape[1];
        public readonly int KeyHeads = k.Shape[2];
        public readonly int QueryOffset = queryOffset;
        public readonly float Scale = scale;
        private readonly int* _keyStart = (int*)keyStart.Pointer;

        /// <summary>Query heads that share a key/value head.</summary>
        public int Group => Heads / KeyHeads;

        /// <summary>First key that a query sees.</summary>
        public int First(int batch, int query) => Math.Max(0, _keyStart[((long)batch * Queries) + query]);
    }

    /// <summary>The keys that a tile's queries see, [Begin, End) for at least one of them.</summary>
    private readonly struct KeyRange
    {
        private readonly int _allFrom;
        private readonly int _allTo;

        public KeyRange(in Problem problem, int batch, int query, int count)
        {
            Begin = int.MaxValue;
            for (int i = 0; i < count; i++)
            {
                int first = problem.First(batch, query + i);
                Begin = Math.Min(Begin, first);
                _allFrom = Math.Max(_allFrom, first);
            }

            _allTo = problem.QueryOffset + query + 1;
            End = problem.QueryOffset + query + count;
        }

        public int Begin { get; }

        public int End { get; }

        /// <summary>Whether each query of the tile sees each of the keys [begin, end).</summary>
        public bool CoversAll(int begin, int end) => begin >= _allFrom && end <= _allTo;
    }

    /// <summary>
    /// For each lane the visible keys relative to key <paramref name="begin"/> as inclusive bounds low and high, for keys
    /// [begin, begin + count); lanes without a query see everything (their numbers are zeros that nobody reads).
    /// </summary>
    private static void LaneBounds<T>(
        in Problem problem, int batch, int query, int queries, int begin, int count, T* low, T* high)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (int i = 0; i < Lanes; i++)
        {
            int first = i < queries ? problem.First(batch, query + i) : begin;
            long last = i < queries ? (long)problem.QueryOffset + query + i : (long)begin + count;
            low[i] = T.CreateTruncating(Math.Clamp((long)first - begin, 0, count));
            high[i] = T.CreateTruncating(Math.Clamp(last - begin, -1, count));
        }
    }

    /// <summary>
    /// Reads <paramref name="count"/> ≤ <see cref="Lanes"/> rows as columns of a [D, Lanes] tile times
    /// <paramref name="factor"/>; the other lanes become zero.
    /// </summary>
    private static void LoadTransposed<T>(FloatRows rows, long offset, long stride, int count, int dimension, T factor, T* tile, T* scratch)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (count < Lanes)
        {
            new Span<T>(tile, dimension * Lanes).Clear();
        }

        int i = 0;
        for (; i + 4 <= count; i += 4)
        {
            T* r0 = rows.Read(offset + (i * stride), dimension, scratch);
            T* r1 = rows.Read(offset + ((i + 1) * stride), dimension, scratch + dimension);
            T* r2 = rows.Read(offset + ((i + 2) * stride), dimension, scratch + (2 * dimension));
            T* r3 = rows.Read(offset + ((i + 3) * stride), dimension, scratch + (3 * dimension));
            T* to = tile + i;
            for (int d = 0; d < dimension; d++, to += Lanes)
            {
                to[0] = r0[d] * factor;
                to[1] = r1[d] * factor;
                to[2] = r2[d] * factor;
                to[3] = r3[d] * factor;
            }
        }

        for (; i < count; i++)
        {
            T* row = rows.Read(offset + (i * stride), dimension, scratch);
            for (int d = 0; d < dimension; d++)
            {
                tile[(d * Lanes) + i] = row[d] * factor;
            }
        }
    }

    /// <summary>
    /// Rows as the compute type with a row stride: the tensor's own memory, or a copy in <paramref name="scratch"/> with
    /// rows padded by zeros to <paramref name="padded"/> columns when they need conversion or (for a B operand) padding.
    /// </summary>
    private static T* LoadRows<T>(
        FloatRows rows, long offset, ref long stride, int count, int dimension, int padded, bool needsPadding, T* scratch)
        where T : unmanaged
    {
        if (rows.InPlace<T>() && (!needsPadding || padded == dimension))
        {
            return (T*)rows.Address(offset);
        }

        for (int i = 0; i < count; i++)
        {
            T* to = scratch + ((long)i * padded);
            T* from = rows.Read(offset + (i * stride), dimension, to);
            if (from != to)
            {
                new ReadOnlySpan<T>(from, dimension).CopyTo(new Span<T>(to, dimension));
            }

            new Span<T>(to + dimension, padded - dimension).Clear();
        }

        stride = padded;
        return scratch;
    }

    /// <summary>destination = source·factor; the two may be the same.</summary>
    private static void Multiply<T>(T* source, T factor, T* destination, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int d = 0;
        for (; d <= count - Vector<T>.Count; d += Vector<T>.Count)
        {
            Vector.Store(Vector.Load(source + d) * factor, destination + d);
        }

        for (; d < count; d++)
        {
            destination[d] = source[d] * factor;
        }
    }
}

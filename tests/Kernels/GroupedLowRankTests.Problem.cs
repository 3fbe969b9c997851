using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <content>A batch of rows with their adapters, and what it has to give in double precision.</content>
public sealed partial class GroupedLowRankTests
{
    /// <summary>Adapters of <see cref="s_ranks"/> over a batch; those of more than <c>mostRank</c> ranks have no layer.</summary>
    private sealed class Problem : IDisposable
    {
        private readonly int[] _indices;
        private readonly int _tokens;
        private readonly int _mostRank;
        private readonly List<GuardedTensor> _tensors = [];
        private readonly Layer?[] _layers;

        public Problem(DType dtype, int[] sizes, int[] indices, int mostRank = int.MaxValue)
        {
            (_tokens, K, N, _indices, _mostRank) = (sizes[0], sizes[1], sizes[2], indices, mostRank);
            DType = dtype;
            var entries = new GroupedAdapter?[s_ranks.Length];
            _layers = new Layer?[s_ranks.Length];
            for (int i = 0; i < s_ranks.Length; i++)
            {
                int rank = s_ranks[i];
                if (rank > 0 && rank <= mostRank)
                {
                    GuardedTensor a = Random.Normal([rank, K], Master);
                    GuardedTensor b = Random.Normal([N, rank], Master);
                    _tensors.AddRange([a, b]);
                    entries[i] = new GroupedAdapter(a, b, 0.5f + i);
                    _layers[i] = new Layer(i, rank, 0.5 + i, a.ToDoubles(), b.ToDoubles());
                }
            }

            Table = AdapterTable.Create(entries, dtype);
            Indices = new AdapterRows(indices, TestDevice.Current);
        }

        public RandomTensors Random { get; } = new(11);

        public DType DType { get; }

        public DType Master => DType == DType.F64 ? DType.F64 : DType.F32;

        public int K { get; }

        public int N { get; }

        public int Rows => _indices.Length * _tokens;

        public AdapterTable Table { get; }

        public AdapterRows Indices { get; }

        public Layer? Layer(int row) => _indices[row / _tokens] is >= 0 and int index ? _layers[index] : null;

        // The sums of dA and dB are as deep as the batch, whatever the adapter.
        public GroupedLowRankCase Case(bool backward) => new(Rows, K, N, Math.Min(s_ranks.Max(), _mostRank), s_ranks.Length, DType, backward);

        public void Dispose()
        {
            Table.Dispose();
            Indices.Dispose();
            _tensors.ForEach(t => t.Dispose());
        }
    }

    private sealed record Layer(int Index, int Rank, double Scale, double[] A, double[] B)
    {
        // scale·x·Aᵀ and the sums of absolute values.
        public (double[] Sum, double[] Magnitude) Down(ReadOnlySpan<double> x)
        {
            var sum = new double[Rank];
            var magnitude = new double[Rank];
            for (int j = 0; j < Rank; j++)
            {
                for (int c = 0; c < x.Length; c++)
                {
                    double product = Scale * x[c] * A[(j * x.Length) + c];
                    sum[j] += product;
                    magnitude[j] += Math.Abs(product);
                }
            }

            return (sum, magnitude);
        }

        // scale·dy·B and the sums of absolute values.
        public (double[] Sum, double[] Magnitude) DownOfGradient(ReadOnlySpan<double> dy)
        {
            var sum = new double[Rank];
            var magnitude = new double[Rank];
            for (int j = 0; j < Rank; j++)
            {
                for (int c = 0; c < dy.Length; c++)
                {
                    double product = Scale * dy[c] * B[(c * Rank) + j];
                    sum[j] += product;
                    magnitude[j] += Math.Abs(product);
                }
            }

            return (sum, magnitude);
        }

        public void Up(double[] s, Span<double> y, bool absolute)
        {
            for (int c = 0; c < y.Length; c++)
            {
                for (int j = 0; j < Rank; j++)
                {
                    double weight = B[(c * Rank) + j];
                    y[c] += s[j] * (absolute ? Math.Abs(weight) : weight);
                }
            }
        }
    }
}

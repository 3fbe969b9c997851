namespace Engine.Kernels.Tests;

/// <summary>Attention from its definition, in double, with the magnitudes of <see cref="AttentionCase.Error"/>.</summary>
internal sealed class AttentionReference
{
    private readonly AttentionCase _case;
    private readonly double[] _q;
    private readonly double[] _k;
    private readonly double[] _v;
    private readonly int[] _keyStart;
    private readonly double _scale;

    // What the fixed error of a rounded p or ds below the normal numbers is as a magnitude.
    private readonly double _floor;

    public AttentionReference(AttentionCase attention, double[] q, double[] k, double[] v, int[] keyStart, float scale)
    {
        (_case, _q, _k, _v, _keyStart, _scale) = (attention, q, k, v, keyStart, scale);
        if (attention.RoundsProbabilities)
        {
            _floor = ErrorBound.SubnormalRoundoff(attention.DType) / attention.Error(attention.DType).Arithmetic;
        }

        O = new double[q.Length];
        OMagnitude = new double[q.Length];
        Lse = new double[attention.Batch * attention.Heads * attention.Queries];
        LseMagnitude = new double[Lse.Length];
        ForEachQuery((b, h, i, first, last) =>
        {
            double[] scores = Scores(b, h, i, first, last, out double condition);
            double max = scores.Length == 0 ? double.NegativeInfinity : scores.Max();
            double sum = scores.Sum(s => Math.Exp(s - max));
            int row = StatisticsIndex(b, h, i);
            Lse[row] = scores.Length == 0 ? double.NegativeInfinity : max + Math.Log(sum);
            LseMagnitude[row] = condition + Math.Abs(Lse[row]);
            for (int d = 0; d < attention.Dimension; d++)
            {
                int at = QueryIndex(b, h, i) + d;
                for (int j = first; j <= last; j++)
                {
                    double p = Math.Exp(scores[j - first] - max) / sum;
                    double value = p * _v[KeyIndex(b, h, j) + d];
                    O[at] += value;
                    OMagnitude[at] += (Math.Abs(value) * condition) + (_floor * Math.Abs(_v[KeyIndex(b, h, j) + d]));
                }
            }
        });
    }

    private delegate void Visit(int b, int h, int i, int first, int last);

    public double[] O { get; }

    public double[] OMagnitude { get; }

    public double[] Lse { get; }

    public double[] LseMagnitude { get; }

    public double[] DQ { get; private set; } = [];

    public double[] DK { get; private set; } = [];

    public double[] DV { get; private set; } = [];

    public double[] DQMagnitude { get; private set; } = [];

    public double[] DKMagnitude { get; private set; } = [];

    public double[] DVMagnitude { get; private set; } = [];

    /// <summary>The gradients as a function of what the backward is given, the stored o and lse among it.</summary>
    public void Backward(double[] dO, double[] o, double[] lse)
    {
        (DQ, DQMagnitude) = (new double[_q.Length], new double[_q.Length]);
        (DK, DKMagnitude) = (new double[_k.Length], new double[_k.Length]);
        (DV, DVMagnitude) = (new double[_k.Length], new double[_k.Length]);
        int dimension = _case.Dimension;
        ForEachQuery((b, h, i, first, last) =>
        {
            double[] scores = Scores(b, h, i, first, last, out double condition);
            int q = QueryIndex(b, h, i);
            double l = lse[StatisticsIndex(b, h, i)];
            condition += first <= last ? Math.Abs(l) : 0;
            double delta = 0;
            double deltaMagnitude = 0;
            for (int d = 0; d < dimension; d++)
            {
                delta += dO[q + d] * o[q + d];
                deltaMagnitude += Math.Abs(dO[q + d] * o[q + d]);
            }

            for (int j = first; j <= last; j++)
            {
                int k = KeyIndex(b, h, j);
                double p = Math.Exp(scores[j - first] - l);
                double dp = 0;
                double magnitude = deltaMagnitude;
                for (int d = 0; d < dimension; d++)
                {
                    dp += dO[q + d] * _v[k + d];
                    magnitude += Math.Abs(dO[q + d] * _v[k + d]);
                }

                double ds = p * (dp - delta) * _scale;
                double dsMagnitude = (p * magnitude * _scale * condition) + _floor;
                for (int d = 0; d < dimension; d++)
                {
                    DQ[q + d] += ds * _k[k + d];
                    DQMagnitude[q + d] += dsMagnitude * Math.Abs(_k[k + d]);
                    DK[k + d] += ds * _q[q + d];
                    DKMagnitude[k + d] += dsMagnitude * Math.Abs(_q[q + d]);
                    DV[k + d] += p * dO[q + d];
                    DVMagnitude[k + d] += ((p * condition) + _floor) * Math.Abs(dO[q + d]);
                }
            }
        });
    }

    private void ForEachQuery(Visit visit)
    {
        for (int b = 0; b < _case.Batch; b++)
        {
            for (int h = 0; h < _case.Heads; h++)
            {
                for (int i = 0; i < _case.Queries; i++)
                {
                    visit(b, h, i, Math.Max(0, _keyStart[(b * _case.Queries) + i]), _case.Keys - _case.Queries + i);
                }
            }
        }
    }

    private double[] Scores(int b, int h, int i, int first, int last, out double condition)
    {
        var scores = new double[Math.Max(0, last - first + 1)];
        condition = 1;
        for (int j = first; j <= last; j++)
        {
            double sum = 0;
            double magnitude = 0;
            for (int d = 0; d < _case.Dimension; d++)
            {
                double product = _q[QueryIndex(b, h, i) + d] * _k[KeyIndex(b, h, j) + d] * _scale;
                sum += product;
                magnitude += Math.Abs(product);
            }

            scores[j - first] = sum;
            condition = Math.Max(condition, magnitude);
        }

        return scores;
    }

    private int QueryIndex(int b, int h, int i) => ((((b * _case.Queries) + i) * _case.Heads) + h) * _case.Dimension;

    private int KeyIndex(int b, int h, int j) =>
        ((((b * _case.Keys) + j) * _case.KeyHeads) + (h / (_case.Heads / _case.KeyHeads))) * _case.Dimension;

    private int StatisticsIndex(int b, int h, int i) => (((b * _case.Heads) + h) * _case.Queries) + i;
}

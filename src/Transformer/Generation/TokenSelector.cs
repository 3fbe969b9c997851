using System.Numerics.Tensors;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// Chooses a row's next token from its logits: repetition penalty, temperature, top-k, top-p, one draw; or the best.
/// On the host, with buffers of its own: no allocation per token.
/// </summary>
internal sealed class TokenSelector
{
    private readonly GenerationOptions _options;
    private readonly float[] _logits;
    private readonly float[] _order;
    private readonly double[] _weights;
    private readonly int[] _ids;
    private readonly Comparison<int> _byLogit;

    public TokenSelector(int vocabulary, GenerationOptions options)
    {
        _options = options;
        _logits = new float[vocabulary];
        int sampled = options.IsGreedy ? 0 : vocabulary;
        _order = new float[sampled];
        _weights = new double[sampled];
        _ids = new int[sampled];

        // Most likely first; of equals the lower id.
        _byLogit = (a, b) => _logits[a] == _logits[b] ? a.CompareTo(b) : _logits[b].CompareTo(_logits[a]);
    }

    /// <summary>The place for a row's logits [vocabulary]; <see cref="Select"/> uses them up.</summary>
    public Span<float> Logits => _logits;

    /// <summary>The next token of a row whose logits are in <see cref="Logits"/>.</summary>
    /// <exception cref="EngineDataException">The logits are not finite.</exception>
    public int Select(GenerationRow row)
    {
        int best = Penalise(row.Seen);
        if (_options.IsGreedy)
        {
            return best;
        }

        int kept = Filter(best);
        double target = RandomNumbers.Unit(_options.Seed, row.Request.Stream, (ulong)row.Generated) * Sum(kept);
        int i = 0;
        for (double sum = _weights[0]; sum <= target && i < kept - 1; sum += _weights[i])
        {
            i++;
        }

        return _ids[i];
    }

    /// <summary>The probabilities that a draw has for each token, for a row with these ids seen; uses the logits up.</summary>
    public double[] Probabilities(ReadOnlySpan<int> seen)
    {
        int kept = Filter(Penalise(seen));
        double sum = Sum(kept);
        double[] probabilities = new double[_logits.Length];
        for (int i = 0; i < kept; i++)
        {
            probabilities[_ids[i]] = _weights[i] / sum;
        }

        return probabilities;
    }

    private int Penalise(ReadOnlySpan<int> seen)
    {
        float penalty = (float)_options.RepetitionPenalty;
        for (int i = 0; penalty != 1 && i < seen.Length; i++)
        {
            ref float logit = ref _logits[seen[i]];
            logit = logit < 0 ? logit * penalty : logit / penalty;
        }

        int best = TensorPrimitives.IndexOfMax<float>(_logits);
        return float.IsFinite(_logits[best])
            ? best
            : throw new EngineDataException($"the logit of token {best} is {_logits[best]}; the model's weights or the adapter's are not finite, or overflow in this dtype");
    }

    // Leaves the tokens that may be drawn in _ids, their unnormalised probabilities in _weights, and returns their number.
    private int Filter(int best)
    {
        float floor = TopKFloor();
        double max = _logits[best];
        int kept = 0;
        double sum = 0;
        for (int i = 0; i < _logits.Length; i++)
        {
            if (_logits[i] >= floor)
            {
                _ids[kept] = i;
                _weights[kept] = Weight(i, max);
                sum += _weights[kept++];
            }
        }

        return _options.TopP < 1 ? TopP(kept, sum, max) : kept;
    }

    // The k-th largest logit: tokens tied with it stay, as in transformers. Keeps the k largest so far, ascending; in logits of
    // random order few enter.
    private float TopKFloor()
    {
        if (_options.TopK == 0 || _options.TopK >= _logits.Length)
        {
            return float.NegativeInfinity;
        }

        Span<float> largest = _order.AsSpan(0, _options.TopK);
        _logits.AsSpan(0, largest.Length).CopyTo(largest);
        largest.Sort();
        foreach (float logit in _logits.AsSpan(largest.Length))
        {
            if (logit > largest[0])
            {
                int at = largest.BinarySearch(logit);
                int below = (at < 0 ? ~at : at) - 1;
                largest[1..(below + 1)].CopyTo(largest);
                largest[below] = logit;
            }
        }

        return largest[0];
    }

    // From the most likely token on, a token stays while those before it have less than p of the mass.
    private int TopP(int count, double sum, double max)
    {
        // Tokens of at most (1 − p)/count of the mass each have at most 1 − p together: they go, whatever their order, and
        // need no sorting.
        double least = (1 - _options.TopP) / count * sum;
        int kept = 0;
        for (int i = 0; i < count; i++)
        {
            if (_weights[i] > least)
            {
                _ids[kept++] = _ids[i];
            }
        }

        _ids.AsSpan(0, kept).Sort(_byLogit);
        double before = 0;
        int end = 0;
        while (end < kept && before < _options.TopP * sum)
        {
            _weights[end] = Weight(_ids[end], max);
            before += _weights[end++];
        }

        return end;
    }

    private double Weight(int id, double max) => Math.Exp((_logits[id] - max) / _options.Temperature);

    private double Sum(int kept)
    {
        double sum = 0;
        for (int i = 0; i < kept; i++)
        {
            sum += _weights[i];
        }

        return sum;
    }
}

using System.Numerics.Tensors;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Chooses the next token from logits: of one row on the host, or of all rows where they are. The filters and their order are those of transformers'
/// generate: repetition penalty, temperature, top-k, top-p; then softmax and a draw.
/// </summary>
/// <remarks>
/// A draw is a function of the logits, the options and (seed, row, step) alone: its uniform number comes from the
/// counter-based <see cref="Philox"/> generator, so that a row of a batch draws what it would draw alone.
/// </remarks>
public static unsafe partial class Sampling
{
    // Keeps the draws apart from other uses of the same seed.
    private static readonly ulong s_stream = RandomNumbers.StreamOf("sampling");

    /// <summary>The token with the highest logit, the lowest id among equals.</summary>
    /// <exception cref="ArgumentException">There are no logits.</exception>
    /// <exception cref="EngineDataException">The logits hold NaN, or −∞ only.</exception>
    public static int Greedy(ReadOnlySpan<float> logits) => Sound(Best(logits));

    /// <summary>The next token.</summary>
    /// <param name="logits">Scores [V].</param>
    /// <param name="seen">Ids of the prompt and of what was generated, for the repetition penalty; any order, repetitions count once.</param>
    /// <param name="options">The filters; temperature 0 is greedy (after the penalty).</param>
    /// <param name="seed">Seed of the generation.</param>
    /// <param name="row">Number of the sequence; sequences with different numbers draw independently.</param>
    /// <param name="step">Number of the token in its sequence.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option or a seen id is out of range.</exception>
    /// <exception cref="EngineDataException">The logits hold NaN, or −∞ only.</exception>
    public static int Select(
        ReadOnlySpan<float> logits, ReadOnlySpan<int> seen, in SamplingOptions options, ulong seed, ulong row, ulong step)
    {
        options.Validate();
        return Sound(Choose(logits, seen, in options, options.Temperature == 0 ? 0 : Uniform(seed, row, step)));
    }

    /// <summary>The distribution that <see cref="Select"/> draws from: 0 for tokens the filters remove; temperature above 0.</summary>
    /// <param name="logits">Scores [V].</param>
    /// <param name="seen">As in <see cref="Select"/>.</param>
    /// <param name="options">As in <see cref="Select"/>.</param>
    /// <param name="probabilities">Result [V].</param>
    /// <exception cref="ArgumentException">The lengths differ, or the temperature is 0.</exception>
    public static void Probabilities(
        ReadOnlySpan<float> logits, ReadOnlySpan<int> seen, in SamplingOptions options, Span<float> probabilities)
    {
        options.Validate();
        if (options.Temperature == 0 || probabilities.Length != logits.Length)
        {
            throw new ArgumentException("needs a temperature above 0 and as many probabilities as logits", nameof(probabilities));
        }

        logits.CopyTo(probabilities);
        Sound(Filter(probabilities, seen, in options));
        float max = TensorPrimitives.Max(probabilities);
        double sum = 0;
        foreach (float score in probabilities)
        {
            sum += Math.Exp((double)score - max);
        }

        for (int i = 0; i < probabilities.Length; i++)
        {
            probabilities[i] = (float)(Math.Exp((double)probabilities[i] - max) / sum);
        }
    }

    // The token, or −1 where the logits are damaged.
    private static int Choose(ReadOnlySpan<float> logits, ReadOnlySpan<int> seen, in SamplingOptions options, double u)
    {
        if (options.Temperature == 0 && options.RepetitionPenalty == 1)
        {
            return Best(logits);
        }

        using ScratchBuffer<float> buffer = Scratch.Rent<float>(logits.Length);
        var scores = new Span<float>(buffer.Pointer, logits.Length);
        logits.CopyTo(scores);
        if (options.Temperature == 0)
        {
            Penalize(scores, seen, (float)options.RepetitionPenalty);
            return Best(scores);
        }

        return Filter(scores, seen, in options) < 0 ? -1 : Draw(scores, u);
    }

    // The best token, or −1 where the logits are damaged.
    private static int Best(ReadOnlySpan<float> logits)
    {
        if (logits.IsEmpty)
        {
            throw new ArgumentException("there are no logits", nameof(logits));
        }

        float best = TensorPrimitives.Max(logits);
        return float.IsNaN(best) || float.IsNegativeInfinity(best) ? -1 : logits.IndexOf(best);
    }

    private static int Sound(int id) => id >= 0 ? id : throw Damaged();

    // Scores that are filtered out become −∞; returns the best logit's token, or −1 where the logits are damaged.
    private static int Filter(Span<float> scores, ReadOnlySpan<int> seen, in SamplingOptions options)
    {
        int best = Best(scores);
        if (best < 0)
        {
            return best;
        }

        if (options.RepetitionPenalty != 1)
        {
            Penalize(scores, seen, (float)options.RepetitionPenalty);
        }

        if (options.Temperature != 1)
        {
            TensorPrimitives.Divide(scores, (float)options.Temperature, scores);
        }

        if (options.TopK > 0 && options.TopK < scores.Length)
        {
            KeepBest(scores, options.TopK);
        }

        if (options.TopP < 1)
        {
            KeepNucleus(scores, options.TopP);
        }

        return best;
    }

    private static void Penalize(Span<float> scores, ReadOnlySpan<int> seen, float penalty)
    {
        using ScratchBuffer<ulong> buffer = Scratch.Rent<ulong>((scores.Length + 63) / 64);
        var done = new Span<ulong>(buffer.Pointer, (scores.Length + 63) / 64);
        done.Clear();
        foreach (int id in seen)
        {
            if ((uint)id >= (uint)scores.Length)
            {
                throw new ArgumentOutOfRangeException(nameof(seen), id, $"a token id is from 0 to {scores.Length - 1}");
            }

            ulong bit = 1UL << (id % 64);
            if ((done[id / 64] & bit) == 0)
            {
                done[id / 64] |= bit;
                scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
            }
        }
    }

    // Equals of the k-th best stay too.
    private static void KeepBest(Span<float> scores, int k)
    {
        using ScratchBuffer<float> buffer = Scratch.Rent<float>(scores.Length);
        var copy = new Span<float>(buffer.Pointer, scores.Length);
        scores.CopyTo(copy);
        float limit = SelectNth(copy, scores.Length - k);
        for (int i = 0; i < scores.Length; i++)
        {
            if (scores[i] < limit)
            {
                scores[i] = float.NegativeInfinity;
            }
        }
    }

    // The element that would be at this index after sorting (Hoare's quickselect, median of three).
    private static float SelectNth(Span<float> values, int index)
    {
        int low = 0;
        int high = values.Length - 1;
        while (low < high)
        {
            float a = values[low], b = values[(low + high) / 2], c = values[high];
            float pivot = MathF.Max(MathF.Min(a, b), MathF.Min(MathF.Max(a, b), c));
            int i = low;
            int j = high;
            while (i <= j)
            {
                while (values[i] < pivot)
                {
                    i++;
                }

                while (values[j] > pivot)
                {
                    j--;
                }

                if (i <= j)
                {
                    (values[i], values[j]) = (values[j], values[i]);
                    i++;
                    j--;
                }
            }

            if (index <= j)
            {
                high = j;
            }
            else if (index >= i)
            {
                low = i;
            }
            else
            {
                break;
            }
        }

        return values[index];
    }

    // In ascending order, tokens are removed while the probability so far is at most 1 − p; the best always stays.
    private static void KeepNucleus(Span<float> scores, double p)
    {
        float max = TensorPrimitives.Max(scores);
        double total = 0;
        foreach (float score in scores)
        {
            total += Math.Exp((double)score - max);
        }

        // Tokens this unlikely sum to less than half of 1 − p, so all of them go and only the rest needs sorting.
        float limit = (float)(1.0 - p);
        double negligible = limit / 2.0 / scores.Length * total;
        using ScratchBuffer<ulong> buffer = Scratch.Rent<ulong>(scores.Length);
        int count = 0;
        double below = 0;
        for (int i = 0; i < scores.Length; i++)
        {
            double weight = Math.Exp((double)scores[i] - max);
            if (weight < negligible)
            {
                below += weight;
                scores[i] = float.NegativeInfinity;
            }
            else
            {
                buffer.Pointer[count++] = ((ulong)Ordered(scores[i]) << 32) | (uint)i;
            }
        }

        var candidates = new Span<ulong>(buffer.Pointer, count);
        candidates.Sort();
        for (int n = 0; n < count - 1; n++)
        {
            int id = (int)(uint)candidates[n];
            below += Math.Exp((double)scores[id] - max);
            if ((float)(below / total) > limit)
            {
                break;
            }

            scores[id] = float.NegativeInfinity;
        }
    }

    // The bits of a float as an integer of the same order; −0 counts as +0.
    private static uint Ordered(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value + 0f);
        return (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
    }

    // The first token, by id, at which the cumulative probability exceeds u.
    private static int Draw(ReadOnlySpan<float> scores, double u)
    {
        float max = TensorPrimitives.Max(scores);
        double total = 0;
        foreach (float score in scores)
        {
            total += Math.Exp((double)score - max);
        }

        double target = u * total;
        double sum = 0;
        int last = 0;
        for (int i = 0; i < scores.Length; i++)
        {
            double weight = Math.Exp((double)scores[i] - max);
            if (weight > 0)
            {
                sum += weight;
                last = i;
                if (sum > target)
                {
                    break;
                }
            }
        }

        return last;
    }

    private static EngineDataException Damaged() =>
        new("the model's logits hold NaN or no finite value; its weights or the adapter's are damaged, or their dtype is too narrow");
}

using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Bench;

/// <summary>
/// Times the candidates of a case in rounds, each one after the other, so that clocks and temperature are alike for those
/// that are compared. A sample is a chain of calls over several sets of inputs, more of them than the L2 cache holds, and is
/// replayed from a graph as a training step is.
/// </summary>
/// <param name="device">Where to measure.</param>
/// <param name="dtype">Dtype of activations, frozen matrix and adapters.</param>
/// <param name="rounds">How often the candidates take turns.</param>
/// <param name="samples">Samples of each in a round.</param>
internal sealed class LoraBenchRunner(Device device, DType dtype, int rounds, int samples)
{
    private const int CacheMultiple = 3;
    private const int LeastSets = 2;
    private const int MostSets = 16;
    private const int MostRepeats = 16;

    // Samples shorter than this would measure the events around them too.
    private const double SampleMicroseconds = 200;

    // StepGraphs records at the third call.
    private const int WarmUps = 4;

    /// <summary>Measures one case.</summary>
    public LoraBenchResult Run(LoraBenchCase work, CancellationToken cancellation)
    {
        using var tensors = new BenchTensors(device);
        int count = Sets(work);
        LoraBenchSet[] sets = [.. Enumerable.Range(0, count).Select(_ => new LoraBenchSet(tensors, work, dtype))];
        using var graphs = new StepGraphs<int>(device);
        try
        {
            Chain[] chains = [.. work.Candidates.Select((c, i) => new Chain(i, c, rounds))];
            int repeats = Repeats(work, count);
            foreach (Chain chain in chains)
            {
                chain.Prepare(graphs, sets, repeats);
            }

            for (int round = 0; round < rounds; round++)
            {
                foreach (Chain chain in chains.Where(c => c.Failure is null))
                {
                    cancellation.ThrowIfCancellationRequested();
                    double[] times = DeviceTimer.Microseconds(device, samples, _ => chain.Sample(graphs));
                    chain.Keep(round, [.. times.Select(t => t / (count * repeats))]);
                }
            }

            return new LoraBenchResult(work, count, count * repeats, [.. chains.Select(c => c.Result())]);
        }
        finally
        {
            device.Synchronize();
            Array.ForEach(sets, s => s.Dispose());
        }
    }

    private int Sets(LoraBenchCase work)
    {
        // On the CPU as few as show that sets differ: its figures are for comparing candidates roughly and for tests.
        long cache = device is CudaDevice cuda ? cuda.Context.L2Bytes : 0;
        return (int)Math.Clamp(Math.Ceiling(CacheMultiple * (double)cache / work.LeastBytes(dtype)), LeastSets, MostSets);
    }

    private int Repeats(LoraBenchCase work, int sets) => device is CudaDevice
        ? (int)Math.Clamp(Math.Ceiling(SampleMicroseconds / (sets * work.Estimate(dtype))), 1, MostRepeats)
        : 1;

    /// <summary>The calls of one candidate, and their times.</summary>
    private sealed class Chain(int key, LoraBenchCandidate candidate, int rounds)
    {
        private readonly double[] _medians = new double[rounds];
        private Action[] _calls = [];
        private int _repeats;
        private double _least = double.NaN;

        public string? Failure { get; private set; }

        // What a candidate cannot do, for lack of memory or for this rank, is said in its result; the others go on.
        public void Prepare(StepGraphs<int> graphs, LoraBenchSet[] sets, int repeats)
        {
            _repeats = repeats;
            try
            {
                _calls = [.. sets.Select(candidate.Make)];
                for (int i = 0; i < WarmUps; i++)
                {
                    Sample(graphs);
                }
            }
            catch (Exception error) when (error is NotSupportedException or ArgumentException or DeviceOutOfMemoryException)
            {
                Failure = error.Message;
            }
        }

        public void Sample(StepGraphs<int> graphs)
        {
            if (candidate.CanBeRecorded)
            {
                graphs.Run(key, this, static chain => chain.RunAll());
            }
            else
            {
                RunAll();
            }
        }

        public void Keep(int round, double[] times)
        {
            _medians[round] = DeviceTimer.Median(times);
            _least = double.IsNaN(_least) ? times.Min() : Math.Min(_least, times.Min());
        }

        public LoraCandidateResult Result() => new(candidate, Failure is null ? _medians : [], _least, Failure);

        private void RunAll()
        {
            for (int i = 0; i < _repeats; i++)
            {
                foreach (Action call in _calls)
                {
                    call();
                }
            }
        }
    }
}

/// <summary>The times of a case's candidates.</summary>
/// <param name="Case">What was compared.</param>
/// <param name="Sets">Sets of inputs.</param>
/// <param name="Calls">Calls in a sample.</param>
/// <param name="Candidates">The first one is what the others are compared with.</param>
internal sealed record LoraBenchResult(LoraBenchCase Case, int Sets, int Calls, IReadOnlyList<LoraCandidateResult> Candidates)
{
    /// <summary>The median over the rounds of a candidate's time over the first one's of the same round.</summary>
    public double Ratio(LoraCandidateResult candidate) =>
        DeviceTimer.Median([.. candidate.Rounds.Zip(Candidates[0].Rounds, (own, bare) => own / bare)]);
}

/// <summary>The times of one candidate, in microseconds.</summary>
/// <param name="Candidate">Which one.</param>
/// <param name="Rounds">The median of each round; empty when it failed.</param>
/// <param name="Least">The shortest of all.</param>
/// <param name="Failure">Why there are no times.</param>
internal sealed record LoraCandidateResult(LoraBenchCandidate Candidate, double[] Rounds, double Least, string? Failure);

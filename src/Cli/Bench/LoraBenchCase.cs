using System.Globalization;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>What <c>engine bench lora</c> compares: a linear layer with an adapter, a merge, or a batch that mixes adapters.</summary>
/// <param name="Name">The kind's name on the command line and in result files.</param>
/// <param name="Extents">What the extents of <c>--shapes</c> are.</param>
/// <param name="Shapes">Their values unless given.</param>
/// <param name="Ranks">Ranks unless given.</param>
/// <param name="Candidates">What is timed; the first one of each mode is what the others of that mode are compared with.</param>
internal sealed record LoraBenchKind(string Name, string Extents, string Shapes, string Ranks, IReadOnlyList<LoraBenchCandidate> Candidates)
{
    /// <summary>Reads <c>--shapes</c> and <c>--ranks</c>; null for the defaults.</summary>
    /// <exception cref="UsageException">A shape or a rank is none.</exception>
    public IReadOnlyList<LoraBenchCase> Cases(string? shapes, string? ranks)
    {
        int count = Extents.Split('x').Length;
        int[] every = [.. List("--ranks", ranks ?? Ranks).Select(r => Integers("--ranks", r, 1, "a whole number")[0])];
        return
        [
            .. from shape in List("--shapes", shapes ?? Shapes)
               let e = Integers("--shapes", shape, count, $"{Extents}, such as {Shapes.Split(',')[0]},")
               from rank in every
               from mode in Candidates.Select(c => c.Mode).Distinct()
               select Case(e, rank, mode),
        ];
    }

    private LoraBenchCase Case(int[] e, int rank, string mode) => e.Length switch
    {
        2 => new LoraBenchCase(this, mode, 0, e[1], e[0], rank, 1),
        3 => new LoraBenchCase(this, mode, e[0], e[1], e[2], rank, 1),
        _ => new LoraBenchCase(this, mode, e[0], e[1], e[2], rank, Math.Min(e[0], e[3])),
    };

    private static string[] List(string option, string text)
    {
        string[] parts = text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return parts.Length > 0 ? parts : throw new UsageException($"{option} is \"{text}\"; expected values separated by commas");
    }

    private static int[] Integers(string option, string text, int count, string expected)
    {
        string[] parts = text.Split(['x', '×'], StringSplitOptions.TrimEntries);
        var values = new int[parts.Length];
        bool valid = parts.Length == count;
        for (int i = 0; valid && i < count; i++)
        {
            valid = int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out values[i]) && values[i] > 0;
        }

        return valid ? values : throw new UsageException($"{option} has \"{text}\"; expected {expected} of 1 or more");
    }
}

/// <summary>One comparison: the candidates of one mode on one shape.</summary>
/// <param name="Kind">What is compared.</param>
/// <param name="Mode">Which of the kind's candidates.</param>
/// <param name="Rows">M, rows of activations; 0 for a merge.</param>
/// <param name="Inputs">K.</param>
/// <param name="Outputs">N.</param>
/// <param name="Rank">r.</param>
/// <param name="Adapters">Adapters in the batch.</param>
internal sealed record LoraBenchCase(LoraBenchKind Kind, string Mode, int Rows, int Inputs, int Outputs, int Rank, int Adapters)
{
    // What an estimate may assume of a GPU; only the number of calls in a sample depends on it.
    private const double FlopsPerSecond = 8e14;
    private const double BytesPerSecond = 3.5e12;

    /// <summary>The candidates of the mode.</summary>
    public IEnumerable<LoraBenchCandidate> Candidates => Kind.Candidates.Where(c => c.Mode == Mode);

    /// <summary>What every candidate touches at least, in bytes: the frozen matrix, activations in and out.</summary>
    public long LeastBytes(DType dtype) => dtype.Size() * (((long)Outputs * Inputs) + ((long)Rows * (Inputs + Outputs)));

    /// <summary>About how long the frozen product or the pass over the matrix takes, in microseconds.</summary>
    public double Estimate(DType dtype) => 1e6 * Math.Max(2.0 * Rows * Inputs * Outputs / FlopsPerSecond, LeastBytes(dtype) / BytesPerSecond);

    /// <summary>For people.</summary>
    public string Title
    {
        get
        {
            string shape = Rows == 0 ? $"{Outputs}x{Inputs}" : $"{Rows}x{Inputs} → {Outputs}";
            return $"{shape}, r {Rank}{(Adapters > 1 ? $", {Adapters} adapters" : "")}";
        }
    }
}

using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>An op that can be run alone: its name, its extents, its case object and how its tensors are made.</summary>
/// <param name="Name">The name on the command line: the op's stem, and which of its calls.</param>
/// <param name="Extents">What the extents of <c>--shape</c> are, separated by ×.</param>
/// <param name="Defaults">Their values unless given.</param>
/// <param name="Case">The case object: bytes and operations.</param>
/// <param name="Make">Makes one set of tensors and returns the call on them.</param>
internal sealed record OpBench(
    string Name,
    string Extents,
    int[] Defaults,
    Func<int[], DType, OpCase> Case,
    Func<BenchTensors, int[], DType, Action> Make)
{
    /// <summary>Every op.</summary>
    public static IReadOnlyList<OpBench> All { get; } =
        [.. RowBenches.All, .. ElementBenches.All, .. TokenBenches.All, .. ProductBenches.All];

    /// <summary>The op of this name.</summary>
    /// <exception cref="UsageException">There is none.</exception>
    public static OpBench Get(string name) => All.FirstOrDefault(b => b.Name == name)
        ?? throw new UsageException($"--op is \"{name}\"; expected all or one of {string.Join(", ", All.Select(b => b.Name))}");

    /// <summary>Reads <c>--shape</c>; null for the defaults.</summary>
    /// <exception cref="UsageException">The text is not as many whole numbers as the op has extents.</exception>
    public int[] Parse(string? shape)
    {
        if (shape is null)
        {
            return Defaults;
        }

        string[] parts = shape.Split(['x', '×', ','], StringSplitOptions.TrimEntries);
        var extents = new int[parts.Length];
        bool valid = parts.Length == Defaults.Length;
        for (int i = 0; valid && i < parts.Length; i++)
        {
            valid = int.TryParse(parts[i], System.Globalization.NumberStyles.None, null, out extents[i]) && extents[i] > 0;
        }

        return valid ? extents : throw new UsageException(
            $"--shape is \"{shape}\"; {Name} takes {Extents.Replace("×", " x ", StringComparison.Ordinal)}, such as {string.Join('x', Defaults)}");
    }
}

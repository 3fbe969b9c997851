using System.Globalization;
using System.Text.RegularExpressions;

namespace Engine.Cli.Profiling;

/// <summary>The kernels that serve one part of a model together.</summary>
/// <param name="Name">The part.</param>
/// <param name="Microseconds">Their time.</param>
/// <param name="Share">Of the time of all kernels.</param>
internal sealed partial record KernelGroup(string Name, double Microseconds, double Share)
{
    // A product with a weight's extent up to this one, in the border's units, is the low-rank path's: the frozen weights of models
    // that are worth a profile are wider, and what an odd vocabulary leaves of a head is no multiple.
    private const int WidestRank = 256;
    private const int BorderUnit = 8;

    // By what a kernel's name begins with; the first that fits counts. SwiGLU forms S on the way, and its backward dA, but most of
    // their time is SwiGLU's.
    private static readonly (string Prefix, string Group)[] s_groups =
    [
        ("lowrank_swiglu", "activations"), ("lowrank", "low-rank path"), ("groupedlowrank", "low-rank path"), ("dora", "low-rank path"),
        ("gemv", "products"), ("attention", "attention"), ("rope", "attention"), ("cacheappend", "attention"),
        ("rmsnorm", "norms"), ("layernorm", "norms"), ("addnorm", "norms"),
        ("swiglu", "activations"), ("silu", "activations"), ("gelu", "activations"),
        ("crossentropy", "embedding and loss"), ("embedding", "embedding and loss"), ("sampling", "embedding and loss"),
        ("adamw", "optimizer"), ("gradientnorm", "optimizer"),
    ];

    /// <summary>The parts, the most time first.</summary>
    public static IReadOnlyList<KernelGroup> Of(IReadOnlyList<KernelTotal> totals)
    {
        double all = totals.Sum(static t => t.Microseconds);
        return [.. totals.GroupBy(static t => GroupOf(t.Kernel))
            .Select(g => new KernelGroup(g.Key, g.Sum(static t => t.Microseconds), g.Sum(static t => t.Microseconds) / all))
            .OrderByDescending(static g => g.Microseconds).ThenBy(static g => g.Name, StringComparer.Ordinal)];
    }

    /// <summary>The part that a kernel serves, such as <c>attention</c>.</summary>
    public static string GroupOf(string kernel)
    {
        if (kernel.StartsWith("gemm ", StringComparison.Ordinal))
        {
            Match extents = Extents().Match(kernel);
            if (!extents.Success)
            {
                return "products";
            }

            // Tokens are the rows, or, where the first operand is transposed for a weight's gradient, the depth.
            bool transposed = extents.Groups[1].Value == "T";
            return IsNarrow(extents.Groups[transposed ? 2 : 4]) || IsNarrow(extents.Groups[3]) ? "low-rank path" : "products";
        }

        return Array.Find(s_groups, g => kernel.StartsWith(g.Prefix, StringComparison.Ordinal)).Group ?? "other";
    }

    private static bool IsNarrow(Group extent)
    {
        int value = int.Parse(extent.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
        return value <= WidestRank && value % BorderUnit == 0;
    }

    // Whether the first operand is transposed; rows×columns×depth.
    [GeneratedRegex(@"([NT])[NT] (\d+)x(\d+)x(\d+)")]
    private static partial Regex Extents();
}

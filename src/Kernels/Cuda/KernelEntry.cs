using System.Globalization;
using System.Text;

namespace Engine.Kernels.Cuda;

/// <summary>A kernel as its portable image declares it.</summary>
/// <param name="Op">The op whose image it is in.</param>
/// <param name="Name">The entry point.</param>
/// <param name="LaunchBound">Most threads that its block is compiled for; 0 when it does not say.</param>
/// <param name="PtxVersion">The image's PTX version, such as <c>7.8</c>.</param>
/// <param name="PtxTarget">The architecture that the PTX needs at least, such as <c>sm_80</c>.</param>
public sealed record KernelEntry(string Op, string Name, int LaunchBound, string PtxVersion, string PtxTarget)
{
    /// <summary>The entry points of an op, in the image's order; none when the op has no portable image.</summary>
    public static IReadOnlyList<KernelEntry> Of(string op)
    {
        string name = $"{op}.ptx";
        return KernelImages.Names.Contains(name) ? Parse(op, Encoding.UTF8.GetString(KernelImages.Read(name))) : [];
    }

    /// <summary>The entry points in a PTX text.</summary>
    public static IReadOnlyList<KernelEntry> Parse(string op, string ptx)
    {
        ArgumentNullException.ThrowIfNull(ptx);
        var entries = new List<KernelEntry>();
        string version = "";
        string target = "";
        bool inHead = false;
        foreach (ReadOnlySpan<char> line in ptx.AsSpan().EnumerateLines())
        {
            if (After(line, ".version ") is { IsEmpty: false } number)
            {
                version = number.Trim().ToString();
            }
            else if (After(line, ".target ") is { IsEmpty: false } architecture)
            {
                target = architecture.Trim().ToString();
            }
            else if (After(line, ".entry ") is { IsEmpty: false } entry)
            {
                int end = entry.IndexOfAny('(', ' ');
                entries.Add(new KernelEntry(op, (end < 0 ? entry : entry[..end]).ToString(), 0, version, target));
                inHead = true;
            }
            else if (inHead && After(line, ".maxntid ") is { IsEmpty: false } extents)
            {
                entries[^1] = entries[^1] with { LaunchBound = Product(extents) };
            }

            inHead &= !line.StartsWith('{');
        }

        return entries;
    }

    private static ReadOnlySpan<char> After(ReadOnlySpan<char> line, string directive)
    {
        int at = line.IndexOf(directive, StringComparison.Ordinal);
        return at < 0 ? default : line[(at + directive.Length)..];
    }

    // "512, 1, 1"
    private static int Product(ReadOnlySpan<char> extents)
    {
        int product = 1;
        foreach (Range part in extents.Split(','))
        {
            product *= int.Parse(extents[part].Trim(), NumberStyles.None, CultureInfo.InvariantCulture);
        }

        return product;
    }
}

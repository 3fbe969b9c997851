using System.Globalization;
using System.Text;

namespace Engine.Kernels.Cuda;

/// <summary>A kernel as its portable image declares it, or one that only an image for one architecture has.</summary>
/// <param name="Op">The op whose image it is in.</param>
/// <param name="Name">The entry point.</param>
/// <param name="LaunchBound">Most threads that its block is compiled for; 0 when it does not say.</param>
/// <param name="PtxVersion">The image's PTX version, such as <c>7.8</c>; empty for a kernel that no PTX has.</param>
/// <param name="PtxTarget">The architecture that the PTX needs at least, such as <c>sm_80</c>; without PTX the only one, such as <c>sm_90a</c>.</param>
public sealed record KernelEntry(string Op, string Name, int LaunchBound, string PtxVersion, string PtxTarget)
{
    /// <summary>Whether only the image for <see cref="PtxTarget"/> has it.</summary>
    public bool IsNative => PtxVersion.Length == 0;

    /// <summary>
    /// The entry points of an op: those of the portable image in its order, then those that only images for one architecture
    /// have, by name.
    /// </summary>
    public static IReadOnlyList<KernelEntry> Of(string op)
    {
        string name = $"{op}.ptx";
        List<KernelEntry> entries = KernelImages.Names.Contains(name) ? [.. Parse(op, Encoding.UTF8.GetString(KernelImages.Read(name)))] : [];
        var known = entries.Select(e => e.Name).ToHashSet();
        foreach (string image in KernelImages.Names.Where(n => n.StartsWith(op + ".sm_", StringComparison.Ordinal) && n.EndsWith("a.cubin", StringComparison.Ordinal)))
        {
            string target = image.Split('.')[1];
            entries.AddRange(NamesIn(KernelImages.Read(image)).Where(n => !known.Contains(n)).Select(n => new KernelEntry(op, n, 0, "", target)));
        }

        return entries;
    }

    /// <summary>The entry points of a cubin by name: each has a section of code of its own.</summary>
    public static IReadOnlyList<string> NamesIn(ReadOnlySpan<byte> cubin)
    {
        ReadOnlySpan<byte> section = "\0.text."u8;
        var names = new SortedSet<string>(StringComparer.Ordinal);
        for (int at; (at = cubin.IndexOf(section)) >= 0;)
        {
            cubin = cubin[(at + section.Length)..];
            int end = cubin.IndexOf((byte)0);
            if (end > 0)
            {
                names.Add(Encoding.ASCII.GetString(cubin[..end]));
            }
        }

        return [.. names];
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

using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Engine.Kernels.Cuda;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>
/// The committed kernel images are those of the committed sources: kernels-cu/build.sh makes both agree again. Needs no GPU
/// and no compiler.
/// </summary>
public sealed partial class ManifestTests
{
    private const string Remedy = "run kernels-cu/build.sh";

    private static readonly string s_root = Repository.PathOf("kernels-cu");
    private static readonly string s_prebuilt = Path.Combine(s_root, "prebuilt");

    public static TheoryData<string> Ops => [.. s_ops];

    private static readonly string[] s_ops =
        [.. Directory.GetDirectories(s_root).Where(d => Directory.GetFiles(d, "*.cu").Length > 0).Select(d => Path.GetFileName(d)!).Order(StringComparer.Ordinal)];

    private static readonly string[][] s_lines =
        [.. File.ReadAllLines(Path.Combine(s_prebuilt, "manifest.tsv")).Skip(1).Select(line => line.Split('\t'))];

    [Theory]
    [MemberData(nameof(Ops))]
    public void An_op_has_a_portable_image_and_native_ones_of_its_present_sources(string op)
    {
        string[][] images = [.. s_lines.Where(l => OpOf(l[0]) == op)];
        string newest = File.Exists(Path.Combine(s_root, op, "wgmma.cuh")) ? "sm_90a" : "sm_90";
        Assert.Equal([$"{op}.ptx", $"{op}.sm_80.cubin", $"{op}.{newest}.cubin"], images.Select(l => l[0]).Order(StringComparer.Ordinal));
        string source = SourceHash(op);
        foreach (string[] line in images)
        {
            Assert.True(source == line[1], $"{line[0]} is not of the present sources; {Remedy} {op}");
            string image = Convert.ToHexStringLower(SHA256.HashData(Image(line[0])));
            Assert.True(image == line[2], $"{line[0]} is not the file in the manifest; {Remedy} {op}");
        }
    }

    [Fact]
    public void The_manifest_the_folder_and_the_assembly_have_the_same_images()
    {
        Assert.NotEmpty(s_ops);
        string[] listed = [.. s_lines.Select(l => l[0]).Order(StringComparer.Ordinal)];
        string[] files = [.. Directory.GetFiles(s_prebuilt).Select(f => Path.GetFileName(f)!).Where(f => f != "manifest.tsv").Select(f => f[..^".gz".Length]).Order(StringComparer.Ordinal)];
        Assert.Equal(listed, files);
        Assert.Equal(s_ops, listed.Select(OpOf).Distinct());
        Assert.SkipUnless(Environment.GetEnvironmentVariable(KernelImages.FolderVariable) is null or "", $"{KernelImages.FolderVariable} is set");
        Assert.Equal(listed, KernelImages.Names);
        foreach (string name in listed)
        {
            byte[] file = Image(name);
            byte[] built = KernelImages.Read(name);
            if (name.EndsWith(".ptx", StringComparison.Ordinal))
            {
                Assert.Equal(0, built[^1]);
                built = built[..^1];
            }

            Assert.True(file.AsSpan().SequenceEqual(built), $"{name} in the assembly is another; build again");
        }
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void Portable_images_load_with_the_oldest_driver_and_on_the_oldest_device(string op)
    {
        string ptx = Encoding.UTF8.GetString(Image(op + ".ptx"));
        double version = double.Parse(Regex.Match(ptx, @"^\.version (\S+)", RegexOptions.Multiline).Groups[1].Value, CultureInfo.InvariantCulture);
        Assert.InRange(version, 7.0, 8.0);
        Assert.Equal("sm_80", Regex.Match(ptx, @"^\.target (\S+)", RegexOptions.Multiline).Groups[1].Value);
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void Entry_points_begin_with_their_op(string op)
    {
        string[] entries = [.. EntryPoint().Matches(Encoding.UTF8.GetString(Image(op + ".ptx"))).Select(m => m.Groups[1].Value)];
        Assert.NotEmpty(entries);
        Assert.All(entries, e => Assert.StartsWith(op + "_", e));
    }

    [GeneratedRegex(@"\.entry (\w+)")]
    internal static partial Regex EntryPoint();

    private static byte[] Image(string name)
    {
        using var file = new GZipStream(File.OpenRead(Path.Combine(s_prebuilt, name + ".gz")), CompressionMode.Decompress);
        using var bytes = new MemoryStream();
        file.CopyTo(bytes);
        return bytes.ToArray();
    }

    private static string OpOf(string image) => image[..image.IndexOf('.', StringComparison.Ordinal)];

    // As source_hash in build.sh: names and contents of what is common and of the op's folder, in the order of the names.
    private static string SourceHash(string op)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        string[] files =
        [
            .. Names("common", "*.cuh"), .. Names(op, "*.cu"), .. Names(op, "*.cuh"),
        ];
        foreach (string name in files.Order(StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(name + "\n"));
            hash.AppendData(File.ReadAllBytes(Path.Combine(s_root, name)));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static IEnumerable<string> Names(string folder, string pattern) =>
        Directory.GetFiles(Path.Combine(s_root, folder), pattern).Select(f => $"{folder}/{Path.GetFileName(f)}");
}

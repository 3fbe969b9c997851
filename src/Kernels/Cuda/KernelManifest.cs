using System.Text;

namespace Engine.Kernels.Cuda;

/// <summary>One line of the manifest that ties each kernel image to its source.</summary>
/// <param name="Image">The image's name, such as <c>rmsnorm.sm_90.cubin</c>.</param>
/// <param name="SourceHash">SHA-256 of the op's sources.</param>
/// <param name="ImageHash">SHA-256 of the image.</param>
/// <param name="Compiler">For example <c>nvcc 11.8</c>.</param>
/// <param name="Target">The architecture: <c>compute_80</c> for portable images, <c>sm_90</c> and so on for native ones.</param>
/// <param name="Flags">The compiler's flags.</param>
public sealed record KernelImageInfo(
    string Image, string SourceHash, string ImageHash, string Compiler, string Target, string Flags);

/// <summary>What the kernel images were built from.</summary>
public static class KernelManifest
{
    private const string FileName = "manifest.tsv";
    private const int Columns = 6;

    /// <summary>The manifest's lines; empty when a folder of images is used that has none.</summary>
    public static IReadOnlyList<KernelImageInfo> Read()
    {
        try
        {
            return Parse(Encoding.UTF8.GetString(KernelImages.Read(FileName)));
        }
        catch (FileNotFoundException)
        {
            return [];
        }
    }

    /// <summary>Reads the manifest's text: a header, then one line of tab-separated columns for each image.</summary>
    public static IReadOnlyList<KernelImageInfo> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return [.. text.Split('\n').Skip(1).Select(line => line.TrimEnd('\r').Split('\t')).Where(c => c.Length == Columns)
            .Select(c => new KernelImageInfo(c[0], c[1], c[2], c[3], c[4], c[5].Trim()))];
    }
}

using System.Collections.Concurrent;
using System.IO.Compression;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>
/// The compiled kernels in this assembly: for each op a portable image (PTX, compiled by the driver when it is loaded) and
/// native ones. An op's image is loaded when its first kernel is launched; native code of the device's own generation is
/// preferred.
/// </summary>
public static class KernelImages
{
    /// <summary>Environment variable: <c>ptx</c> loads the portable images where native ones would be chosen.</summary>
    public const string TargetVariable = "ENGINE_KERNEL_TARGET";

    /// <summary>Environment variable: a folder whose images are used instead of those built in, for work on kernels.</summary>
    public const string FolderVariable = "ENGINE_KERNEL_IMAGES";

    private const string Resource = "kernels.zip";
    private const string Compressed = ".gz";

    private static readonly ConcurrentDictionary<(int Device, string Op), CudaModule> s_modules = new();
    private static readonly Lock s_lock = new();

    /// <summary>Names of all images, such as <c>rmsnorm.ptx</c> and <c>rmsnorm.sm_90.cubin</c>.</summary>
    public static IReadOnlyList<string> Names
    {
        get
        {
            if (Folder is { } folder)
            {
                return [.. Directory.EnumerateFiles(folder).Select(f => NameOf(Path.GetFileName(f))).Where(IsImage).Distinct().Order(StringComparer.Ordinal)];
            }

            using ZipArchive archive = OpenArchive();
            return [.. archive.Entries.Select(e => NameOf(e.Name)).Where(IsImage).Order(StringComparer.Ordinal)];
        }
    }

    /// <summary>The ops that have kernels.</summary>
    public static IReadOnlyList<string> Ops => [.. Names.Select(n => n[..n.IndexOf('.', StringComparison.Ordinal)]).Distinct()];

    private static string? Folder => Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } folder ? folder : null;

    /// <summary>The image that a device of this compute capability (such as 90) would load for an op.</summary>
    /// <exception cref="EngineDataException">There is none.</exception>
    public static string Choose(string op, int capability)
    {
        string best = "";
        int bestArchitecture = -1;
        bool portable = Environment.GetEnvironmentVariable(TargetVariable) is { } target && target switch
        {
            "ptx" => true,
            "" or "native" => false,
            _ => throw new EngineDataException($"{TargetVariable} is \"{target}\"; expected native or ptx"),
        };
        foreach (string name in Names)
        {
            if (!name.StartsWith(op + ".", StringComparison.Ordinal))
            {
                continue;
            }

            int architecture = ArchitectureOf(name, capability);
            if (architecture > bestArchitecture && (!portable || architecture == 0))
            {
                (best, bestArchitecture) = (name, architecture);
            }
        }

        return bestArchitecture >= 0
            ? best
            : throw new EngineDataException($"there is no kernel image of {op} for compute capability {capability / 10}.{capability % 10}");
    }

    /// <summary>The bytes of an image; PTX with a zero byte at its end, as the driver wants it.</summary>
    public static byte[] Read(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        using var bytes = new MemoryStream();
        if (Folder is { } folder)
        {
            string path = Path.Combine(folder, name);
            bool plain = File.Exists(path) || !File.Exists(path + Compressed);
            using FileStream file = File.OpenRead(plain ? path : path + Compressed);
            Unpack(file, plain, bytes);
        }
        else
        {
            using ZipArchive archive = OpenArchive();
            ZipArchiveEntry? plain = archive.GetEntry(name);
            using Stream entry = (plain ?? archive.GetEntry(name + Compressed))?.Open() ?? throw new EngineDataException($"there is no kernel image {name}");
            Unpack(entry, plain is not null, bytes);
        }

        if (name.EndsWith(".ptx", StringComparison.Ordinal))
        {
            bytes.WriteByte(0);
        }

        return bytes.ToArray();
    }

    /// <summary>An op's image, loaded on a device.</summary>
    public static CudaModule Load(CudaDevice device, string op)
    {
        ArgumentNullException.ThrowIfNull(device);
        (int, string) key = (device.Context.Ordinal, op);
        if (s_modules.TryGetValue(key, out CudaModule? module))
        {
            return module;
        }

        lock (s_lock)
        {
            return s_modules.GetOrAdd(key, _ =>
            {
                string name = Choose(op, device.Context.ComputeCapability);
                device.Context.MakeCurrent();
                return new CudaModule(Read(name), name);
            });
        }
    }

    // 0 for PTX, −1 for an image that the device cannot run. Cubins run on their own and later minors of one major; those of
    // an architecture with an "a" on that one alone.
    private static int ArchitectureOf(string name, int capability)
    {
        if (name.EndsWith(".ptx", StringComparison.Ordinal))
        {
            return capability >= CudaContext.OldestCapability ? 0 : -1;
        }

        int begin = name.IndexOf(".sm_", StringComparison.Ordinal) + 4;
        ReadOnlySpan<char> text = name.AsSpan(begin, name.LastIndexOf('.') - begin);
        bool specific = text[^1] == 'a';
        int architecture = int.Parse(specific ? text[..^1] : text);
        bool runs = specific ? architecture == capability : architecture / 10 == capability / 10 && architecture <= capability;
        return runs ? (2 * architecture) + (specific ? 1 : 0) : -1;
    }

    private static void Unpack(Stream stream, bool plain, MemoryStream to)
    {
        using Stream source = plain ? stream : new GZipStream(stream, CompressionMode.Decompress);
        source.CopyTo(to);
    }

    private static string NameOf(string file) => file.EndsWith(Compressed, StringComparison.Ordinal) ? file[..^Compressed.Length] : file;

    private static bool IsImage(string name) =>
        name.EndsWith(".ptx", StringComparison.Ordinal) || name.EndsWith(".cubin", StringComparison.Ordinal);

    private static ZipArchive OpenArchive() => new(
        typeof(KernelImages).Assembly.GetManifestResourceStream(Resource) ?? throw new InvalidOperationException($"{Resource} is missing"));
}

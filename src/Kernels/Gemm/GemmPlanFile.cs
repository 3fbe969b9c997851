using System.Runtime.InteropServices;

namespace Engine.Kernels.Gemm;

/// <summary>
/// Measured plans on disk, so that every process on a machine chooses alike: a choice by time alone could differ from run
/// to run, and with it the last bits of a training. A line is (library and GPU, problem, algorithm, microseconds); the
/// first line of a problem counts. The folder is <c>ENGINE_CACHE_DIR</c>, else the user's cache folder; without one that can be
/// written nothing is measured and the library's first proposal is taken.
/// </summary>
internal sealed class GemmPlanFile
{
    /// <summary>Environment variable: the folder of cached plans; <c>off</c> for none.</summary>
    public const string FolderVariable = "ENGINE_CACHE_DIR";

    private const string FileName = "gemm-plans.tsv";

    private readonly string? _path;
    private readonly string _machine;
    private readonly Dictionary<string, GemmAlgorithm> _known = new(StringComparer.Ordinal);

    public GemmPlanFile(string machine)
    {
        _machine = machine;
        _path = PathOf();
        if (_path is not null)
        {
            try
            {
                using FileStream stream = Open(_path);
                Read(stream);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                _path = null;
            }
        }
    }

    /// <summary>Whether choices can be kept.</summary>
    public bool IsWritable => _path is not null;

    public bool TryGet(in GemmProblem problem, out GemmAlgorithm algorithm) => _known.TryGetValue(problem.Text, out algorithm);

    /// <summary>Keeps a choice; returns the one that counts, which is another process's if that was earlier.</summary>
    public GemmAlgorithm Add(in GemmProblem problem, in GemmAlgorithm algorithm, double microseconds)
    {
        string key = problem.Text;
        try
        {
            using FileStream stream = Open(_path!);
            Read(stream);
            if (_known.TryGetValue(key, out GemmAlgorithm earlier))
            {
                return earlier;
            }

            GemmAlgorithm copy = algorithm;
            string hex = Convert.ToHexString(MemoryMarshal.AsBytes<ulong>(copy));
            stream.Seek(0, SeekOrigin.End);
            stream.Write(System.Text.Encoding.UTF8.GetBytes(FormattableString.Invariant($"{_machine}\t{key}\t{hex}\t{microseconds:F1}\n")));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The disk is full or the folder is gone: the choice holds for this process.
        }

        _known[key] = algorithm;
        return algorithm;
    }

    private static string? PathOf()
    {
        string? folder = Environment.GetEnvironmentVariable(FolderVariable);
        if (folder is "off")
        {
            return null;
        }

        if (string.IsNullOrEmpty(folder))
        {
            string? cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg ? xdg
                : OperatingSystem.IsWindows() ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
                : Environment.GetEnvironmentVariable("HOME") is { Length: > 0 } home ? Path.Combine(home, ".cache")
                : null;
            folder = string.IsNullOrEmpty(cache) ? null : Path.Combine(cache, "engine");
        }

        try
        {
            if (folder is not null)
            {
                Directory.CreateDirectory(folder);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }

        return folder is null ? null : Path.Combine(folder, FileName);
    }

    // Nobody else reads or writes meanwhile; a process that holds the file does so for milliseconds.
    private static FileStream Open(string path)
    {
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (attempt < 50 && File.Exists(path))
            {
                Thread.Sleep(10);
            }
        }
    }

    private void Read(FileStream stream)
    {
        stream.Seek(0, SeekOrigin.Begin);
        var reader = new StreamReader(stream, leaveOpen: true);
        while (reader.ReadLine() is { } line)
        {
            string[] fields = line.Split('\t');

            // A line cut short by a crash, or of another machine, is passed over.
            if (fields.Length != 4 || fields[0] != _machine || fields[2].Length != 128)
            {
                continue;
            }

            GemmAlgorithm algorithm = default;
            Span<byte> bytes = MemoryMarshal.AsBytes((Span<ulong>)algorithm);
            if (Convert.FromHexString(fields[2], bytes, out _, out _) == System.Buffers.OperationStatus.Done)
            {
                _known.TryAdd(fields[1], algorithm);
            }
        }
    }
}

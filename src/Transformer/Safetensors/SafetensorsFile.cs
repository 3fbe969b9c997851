using System.Diagnostics.CodeAnalysis;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// A memory-mapped safetensors file: 8 bytes little-endian header length, a JSON header, the tensors' bytes
/// (format: https://github.com/huggingface/safetensors#format). The whole description is checked before anything is
/// exposed; the bytes are paged in as they are read. The file must not be truncated by others while it is open: a
/// mapped page that no longer exists cannot be reported as an exception. Reading is thread-safe; disposing is not.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    /// <summary>The largest header accepted, in bytes; the reference library's own limit.</summary>
    public const long MaxHeaderLength = 100_000_000;

    private readonly MappedBytes _bytes;
    private readonly long _dataStart;
    private readonly Dictionary<string, SafetensorsTensor> _tensors;
    private readonly Dictionary<string, string> _metadata;

    private unsafe SafetensorsFile(string path, MappedBytes bytes)
    {
        Path = path;
        _bytes = bytes;
        int headerLength = SafetensorsPreamble.HeaderLength(path, bytes.Pointer, bytes.Length);
        _dataStart = 8 + headerLength;
        var parser = new SafetensorsHeaderParser(this, bytes.Length - _dataStart);
        parser.Parse(new ReadOnlySpan<byte>(bytes.Pointer + 8, headerLength));
        _tensors = parser.Tensors;
        _metadata = parser.Metadata;
    }

    /// <summary>The path given to <see cref="Open"/>, or the name given to <see cref="Parse"/>.</summary>
    public string Path { get; }

    /// <summary>The tensors by name, enumerated in the header's order.</summary>
    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors => _tensors;

    /// <summary>The header's <c>__metadata__</c>, empty when it has none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    internal unsafe byte* DataPointer
    {
        get
        {
            byte* start = _bytes.Pointer;
            ObjectDisposedException.ThrowIf(start is null, this);
            return start + _dataStart;
        }
    }

    /// <summary>The tensor called <paramref name="name"/>.</summary>
    /// <exception cref="EngineDataException">The file has no such tensor.</exception>
    public SafetensorsTensor this[string name] => _tensors.TryGetValue(name, out SafetensorsTensor? tensor)
        ? tensor
        : throw new EngineDataException($"{Path}: there is no tensor {ErrorText.Quote(name)}");

    /// <summary>Maps <paramref name="path"/> and checks its header.</summary>
    /// <exception cref="EngineDataException">The file is missing, unreadable, or not a valid safetensors file.</exception>
    public static SafetensorsFile Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        MappedBytes? bytes = null;
        FileStream? file = null;
        try
        {
            file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
            if (file.Length < 8)
            {
                throw new EngineDataException(SafetensorsPreamble.TooShort(path, file.Length));
            }

            bytes = MappedBytes.Map(file);
            return new SafetensorsFile(path, bytes);
        }
        catch (Exception error)
        {
            bytes?.Dispose();
            file?.Dispose();
            string? problem = error switch
            {
                FileNotFoundException or DirectoryNotFoundException => "there is no such file",
                UnauthorizedAccessException when Directory.Exists(path) => "this is a directory; a safetensors file is needed",
                IOException or UnauthorizedAccessException => $"cannot be read: {error.Message}",
                _ => null,
            };
            if (problem is not null)
            {
                throw new EngineDataException($"{path}: {problem}", error);
            }

            throw;
        }
    }

    /// <summary>Reads a safetensors file that is already in memory; the array is pinned until the result is disposed.</summary>
    /// <param name="bytes">The whole file.</param>
    /// <param name="name">What messages call the file.</param>
    /// <exception cref="EngineDataException">The bytes are not a valid safetensors file.</exception>
    public static SafetensorsFile Parse(byte[] bytes, string name = "(memory)")
    {
        ArgumentNullException.ThrowIfNull(bytes);
        if (bytes.Length < 8)
        {
            throw new EngineDataException(SafetensorsPreamble.TooShort(name, bytes.Length));
        }

        MappedBytes pinned = MappedBytes.Pin(bytes);
        try
        {
            return new SafetensorsFile(name, pinned);
        }
        catch
        {
            pinned.Dispose();
            throw;
        }
    }

    /// <summary>Looks for a tensor.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out SafetensorsTensor? tensor) => _tensors.TryGetValue(name, out tensor);

    /// <inheritdoc/>
    public void Dispose() => _bytes.Dispose();
}

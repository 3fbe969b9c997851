namespace Engine.Tensors;

/// <summary>
/// Files that appear whole or not at all: content goes to a temporary name in the same directory, is flushed to the
/// disk, and is renamed over the target. A failure leaves neither the temporary file nor a changed target.
/// </summary>
public static class AtomicFile
{
    // Makes temporary names unique, so that writers of the same target do not disturb one another.
    private static int s_calls;

    /// <summary>Writes <paramref name="path"/> through <paramref name="write"/>; creates the directory if needed.</summary>
    /// <exception cref="EngineDataException">The disk is full or the place cannot be written.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        if (string.IsNullOrEmpty(Path.GetFileName(path)))
        {
            throw new EngineDataException($"cannot write \"{path}\": it does not name a file");
        }

        string full = Path.GetFullPath(path);
        string temporary = $"{full}.{Environment.ProcessId:x}-{Interlocked.Increment(ref s_calls):x}.tmp";
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(full)!);
            using (var stream = new FileStream(temporary, FileMode.Create, FileAccess.ReadWrite, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, full, overwrite: true);
        }
        catch (Exception error)
        {
            TryDelete(temporary);

            // .NET reports a file that grows beyond the file system's limit (EFBIG) as an argument out of range.
            if (error is IOException or UnauthorizedAccessException or ArgumentOutOfRangeException { ParamName: "value" })
            {
                throw new EngineDataException($"cannot write {path}: {error.Message}", error);
            }

            throw;
        }
    }

    /// <summary>Writes <paramref name="content"/> as UTF-8 without a byte order mark.</summary>
    /// <exception cref="EngineDataException">The disk is full or the place cannot be written.</exception>
    public static void WriteAllText(string path, string content) =>
        Write(path, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(content)));

    /// <summary>Deletes a file if it is there: the one without which what is about to be replaced does not count as complete.</summary>
    /// <exception cref="EngineDataException">It is there and cannot be deleted.</exception>
    public static void Delete(string path)
    {
        try
        {
            if (File.Exists(path))
            {
                File.Delete(path);
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"cannot replace {path}: {error.Message}", error);
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The original failure is the one to report; a leftover temporary file is the lesser harm.
        }
    }
}

using Engine.Tensors;

namespace Engine.Lora.Data;

/// <summary>Opening data files with errors fit for the user.</summary>
internal static class Files
{
    public static T Read<T>(string path, Func<Stream, T> read)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
            return read(stream);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new EngineDataException($"{path}: there is no such file", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException(
                Directory.Exists(path) ? $"{path}: this is a directory; a JSONL file is needed" : $"{path}: cannot be read: {error.Message}", error);
        }
    }
}

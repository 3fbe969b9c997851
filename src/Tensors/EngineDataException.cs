namespace Engine.Tensors;

/// <summary>
/// Something outside the program is wrong: a file, a field, a value, an option's argument. The message is complete for
/// the person who supplied it: it names the file, the field, the value found and what would be right.
/// The command line prints the message alone, without a stack trace, and exits with code 1.
/// </summary>
public class EngineDataException : Exception
{
    /// <summary>Creates the exception without a message; prefer the overload that explains.</summary>
    public EngineDataException()
    {
    }

    /// <summary>Creates the exception with the message shown to the user.</summary>
    public EngineDataException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with the message shown to the user and the error that led to it.</summary>
    public EngineDataException(string message, Exception? innerException)
        : base(message, innerException)
    {
    }
}

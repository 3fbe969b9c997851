namespace Engine.Cli;

/// <summary>What the process returns.</summary>
internal static class ExitCode
{
    public const int Success = 0;

    /// <summary>A file, a row or the disk is wrong.</summary>
    public const int Data = 1;

    /// <summary>The command line is wrong.</summary>
    public const int Usage = 2;

    /// <summary>A fault of this program (sysexits' EX_SOFTWARE).</summary>
    public const int Internal = 70;

    /// <summary>Ended by Ctrl+C (128 + SIGINT).</summary>
    public const int Interrupted = 130;

    /// <summary>The reader of the output went away (128 + SIGPIPE).</summary>
    public const int BrokenPipe = 141;
}

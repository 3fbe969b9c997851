using System.Diagnostics;

namespace Engine.Cli;

/// <summary>
/// One line at the bottom of the terminal that is drawn over; without a terminal it draws nothing, and callers print
/// plain lines instead.
/// </summary>
internal sealed class StatusLine(CommandConsole console, bool quiet) : IDisposable
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    private long _drawn;
    private bool _shown;

    /// <summary>Whether the line can be drawn.</summary>
    public bool IsLive { get; } = console.IsErrorTerminal && !quiet;

    /// <summary>Draws a new text, at most ten times a second unless it is the last.</summary>
    public void Show(string text, bool last = false)
    {
        if (IsLive && (last || !_shown || Stopwatch.GetElapsedTime(_drawn) >= s_interval))
        {
            console.Error.Write($"\r{Fit(text)}\u001b[K");
            _drawn = Stopwatch.GetTimestamp();
            _shown = true;
        }
    }

    /// <summary>Prints a line that stays, above the status.</summary>
    public void Print(string text)
    {
        Clear();
        if (!quiet)
        {
            console.Error.WriteLine(text);
        }
    }

    /// <summary>Takes the status away.</summary>
    public void Clear()
    {
        if (_shown)
        {
            console.Error.Write("\r\u001b[K");
            _shown = false;
        }
    }

    public void Dispose() => Clear();

    // A line that wraps cannot be drawn over.
    private static string Fit(string text)
    {
        int width;
        try
        {
            width = Console.WindowWidth;
        }
        catch (IOException)
        {
            width = 0;
        }

        return width > 1 && text.Length >= width ? text[..(width - 1)] : text;
    }
}

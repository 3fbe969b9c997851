using System.Text;

namespace Engine.Cli;

/// <summary>
/// What a command reads and writes: results go to <see cref="Output"/>, progress, notes and errors to <see cref="Error"/>,
/// so that a result can be piped.
/// </summary>
/// <param name="input">Standard input.</param>
/// <param name="output">Standard output.</param>
/// <param name="error">Standard error.</param>
/// <param name="cancellation">Gives the token that Ctrl+C cancels; asking for it promises to watch it.</param>
internal sealed class CommandConsole(TextReader input, TextWriter output, TextWriter error, Func<CancellationToken>? cancellation = null)
{
    public TextReader Input { get; } = input;

    public TextWriter Output { get; } = output;

    public TextWriter Error { get; } = error;

    /// <summary>Whether somebody looks at <see cref="Output"/>.</summary>
    public bool IsOutputTerminal { get; init; }

    /// <summary>Whether somebody looks at <see cref="Error"/>: lines may be drawn over.</summary>
    public bool IsErrorTerminal { get; init; }

    /// <summary>The token that Ctrl+C cancels.</summary>
    public CancellationToken Cancellation => cancellation?.Invoke() ?? default;

    /// <summary>The process's own streams.</summary>
    public static CommandConsole System(Interrupts interrupts)
    {
        var utf8 = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        var output = new StreamWriter(Console.OpenStandardOutput(), utf8, bufferSize: 1 << 14) { AutoFlush = false };
        var input = new StreamReader(Console.OpenStandardInput(), utf8, detectEncodingFromByteOrderMarks: true);
        var error = new StreamWriter(Console.OpenStandardError(), utf8) { AutoFlush = true };
        return new CommandConsole(input, output, error, () => interrupts.Token)
        {
            IsOutputTerminal = !Console.IsOutputRedirected,
            IsErrorTerminal = !Console.IsErrorRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb",
        };
    }
}

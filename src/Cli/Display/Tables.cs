using System.Text;
using Spectre.Console;

namespace Engine.Cli;

/// <summary>Tables for people.</summary>
internal static class Tables
{
    // Wide enough for any tensor's name; a pipe has no width of its own.
    private const int PipeWidth = 240;

    /// <summary>Writes a table; a header that begins with <c>&gt;</c> aligns its column to the right.</summary>
    public static void WriteTable(this CommandConsole console, IReadOnlyList<string> headers, IEnumerable<IReadOnlyList<string>> rows)
    {
        var table = new Table { Border = TableBorder.Simple };
        foreach (string header in headers)
        {
            bool right = header.StartsWith('>');
            var column = new TableColumn(new Text(right ? header[1..] : header, new Style(decoration: Decoration.Bold))) { NoWrap = true };
            table.AddColumn(right ? column.RightAligned() : column);
        }

        foreach (IReadOnlyList<string> row in rows)
        {
            table.AddRow(row.Select(cell => new Text(cell)));
        }

        console.CreateAnsi().Write(table);
    }

    /// <summary>Writes pairs, the names aligned.</summary>
    public static void WritePairs(this CommandConsole console, IEnumerable<(string Name, string Value)> pairs)
    {
        (string Name, string Value)[] all = [.. pairs];
        int width = all.Max(p => p.Name.Length);
        foreach ((string name, string value) in all)
        {
            console.Output.WriteLine($"{name.PadRight(width)}  {value}");
        }
    }

    /// <summary>Spectre's console over standard output: colours and drawn-over lines only where somebody looks.</summary>
    public static IAnsiConsole CreateAnsi(this CommandConsole console)
    {
        bool terminal = console.IsOutputTerminal;
        return AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new Output(console),
            Ansi = terminal ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = terminal ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
        });
    }

    private sealed class Output(CommandConsole console) : IAnsiConsoleOutput
    {
        private readonly AnsiConsoleOutput _standard = new(Console.Out);

        public TextWriter Writer => console.Output;

        public bool IsTerminal => console.IsOutputTerminal;

        public int Width => console.IsOutputTerminal ? _standard.Width : PipeWidth;

        public int Height => _standard.Height;

        public void SetEncoding(Encoding encoding)
        {
            // The stream is UTF-8 already.
        }
    }
}

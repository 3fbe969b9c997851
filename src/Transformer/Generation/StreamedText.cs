using System.Text;
using Engine.Transformer.Tokenization;

namespace Engine.Transformer;

/// <summary>
/// The text of one row while it is generated: decodes token by token, finds stop strings, and holds back the end of the
/// text as long as it may be the beginning of one.
/// </summary>
internal sealed class StreamedText
{
    private readonly TokenStreamDecoder _decoder;
    private readonly IReadOnlyList<string> _stops;
    private readonly int _longestStop;
    private readonly StringBuilder _shown = new();
    private string _held = "";

    public StreamedText(Tokenizer tokenizer, IReadOnlyList<string> stops)
    {
        _decoder = tokenizer.CreateStreamDecoder();
        _stops = stops;
        _longestStop = stops.Count == 0 ? 0 : stops.Max(s => s.Length);
    }

    /// <summary>True once a stop string has occurred; the text ends before it.</summary>
    public bool Stopped { get; private set; }

    /// <summary>All text returned so far.</summary>
    public string Text => _shown.ToString();

    /// <summary>Takes the next id and returns the text that has become certain.</summary>
    public string Add(int id) => Take(_decoder.Add(id), last: false);

    /// <summary>Ends the row and returns the rest.</summary>
    public string Finish() => Take(_decoder.Flush(), last: true);

    private string Take(string part, bool last)
    {
        if (Stopped)
        {
            return "";
        }

        string pending = _held + part;
        int end = FirstStop(pending);
        Stopped = end >= 0;
        if (end < 0)
        {
            end = last ? pending.Length : pending.Length - PossibleStop(pending);
        }

        _held = pending[end..];
        string shown = pending[..end];
        _shown.Append(shown);
        return shown;
    }

    // A stop string cannot begin in what was shown: it would have been held back. So the pending text is all there is to search.
    private int FirstStop(string pending)
    {
        int first = -1;
        foreach (string stop in _stops)
        {
            int at = pending.IndexOf(stop, StringComparison.Ordinal);
            first = at >= 0 && (first < 0 || at < first) ? at : first;
        }

        return first;
    }

    // Length of the longest end of the text that begins a stop string.
    private int PossibleStop(string pending)
    {
        for (int length = Math.Min(_longestStop - 1, pending.Length); length > 0; length--)
        {
            ReadOnlySpan<char> end = pending.AsSpan(pending.Length - length);
            foreach (string stop in _stops)
            {
                if (stop.AsSpan().StartsWith(end, StringComparison.Ordinal))
                {
                    return length;
                }
            }
        }

        return 0;
    }
}

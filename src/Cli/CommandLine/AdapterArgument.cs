using System.Globalization;

namespace Engine.Cli;

/// <summary>An adapter on the command line: <c>DIR</c> or <c>DIR:weight</c>.</summary>
/// <param name="Directory">The adapter's directory.</param>
/// <param name="Weight">Its weight, 1 unless given.</param>
internal sealed record AdapterArgument(string Directory, double Weight)
{
    /// <summary>
    /// Reads an argument. The part after the last colon is a weight only if it is a number and the whole text is not
    /// itself a directory, so that <c>C:\adapter</c> and directories with colons in their names are paths.
    /// </summary>
    public static AdapterArgument Parse(string text)
    {
        int colon = text.LastIndexOf(':');
        bool weighted = colon > 0 && !System.IO.Directory.Exists(text) &&
            double.TryParse(text.AsSpan(colon + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out double weight) && double.IsFinite(weight);
        return weighted
            ? new AdapterArgument(text[..colon], double.Parse(text.AsSpan(colon + 1), NumberStyles.Float, CultureInfo.InvariantCulture))
            : new AdapterArgument(text, 1);
    }
}

using System.Globalization;
using System.Text;
using Engine.Lora;

namespace Engine.Cli;

/// <summary>One run's losses in a chart.</summary>
/// <param name="Name">Stands in the legend.</param>
/// <param name="Training">Loss of each step, in order.</param>
/// <param name="Evaluation">Held-out losses, possibly none.</param>
internal sealed record LossSeries(string Name, IReadOnlyList<LossPoint> Training, IReadOnlyList<LossPoint> Evaluation);

/// <summary>
/// Draws the losses of one or several trainings as SVG: each step faintly, their moving average, and held-out losses as
/// points. Lines and letters take their colours from the page's light or dark scheme.
/// </summary>
internal static class LossChart
{
    private const int Width = 720;
    private const int Height = 360;
    private const int Left = 64;
    private const int Right = 16;
    private const int Top = 40;
    private const int Bottom = 44;
    private const int Colours = 4;

    private const string Style = """
        <style>
        text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-size: 14px; font-weight: 600; fill: #24292f }
        .grid { stroke: #d0d7de; stroke-width: 1 } polyline { fill: none; stroke-width: 1; stroke-linejoin: round }
        .raw { opacity: .28 } .mean { stroke-width: 2 } .evalline { stroke-width: 1.5; stroke-dasharray: 4 3 }
        .s0 { color: #0969da } .s1 { color: #bc4c00 } .s2 { color: #1a7f37 } .s3 { color: #8250df }
        polyline { stroke: currentColor } circle, rect { fill: currentColor }
        @media (prefers-color-scheme: dark) {
        text { fill: #8b949e } .title { fill: #e6edf3 } .grid { stroke: #30363d }
        .s0 { color: #58a6ff } .s1 { color: #f0883e } .s2 { color: #3fb950 } .s3 { color: #bc8cff }
        }
        </style>

        """;

    // A point for each pixel is as much as can be seen; a longer run is thinned.
    private const int MostPoints = 1200;

    /// <summary>The chart.</summary>
    /// <param name="series">The runs; a fifth takes the first's colour again.</param>
    /// <param name="title">Stands above the chart.</param>
    public static string Draw(IReadOnlyList<LossSeries> series, string title)
    {
        LossSeries[] finite = [.. series.Select(s => s with { Training = Finite(s.Training), Evaluation = Finite(s.Evaluation) })];
        LossPoint[] all = [.. finite.SelectMany(s => s.Training.Concat(s.Evaluation))];
        var x = new ChartAxis(0, all.Length == 0 ? 1 : all.Max(p => p.Step), Left, Width - Right, wholeNumbers: true);
        var y = new ChartAxis(
            Math.Min(0, all.Length == 0 ? 0 : all.Min(p => p.Loss)), all.Length == 0 ? 1 : all.Max(p => p.Loss), Height - Bottom, Top);
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" width=\"{Width}\" height=\"{Height}\" role=\"img\" aria-label=\"{Escape(title)}\">\n");
        svg.Append(Style);
        svg.Append(CultureInfo.InvariantCulture, $"<text class=\"title\" x=\"{Left}\" y=\"22\">{Escape(title)}</text>\n");
        Axes(svg, x, y);
        for (int i = 0; i < finite.Length; i++)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<g class=\"s{i % Colours}\">\n");
            Line(svg, "raw", Thin(finite[i].Training), x, y);
            Line(svg, "mean", Thin(Smooth(finite[i].Training)), x, y);
            Line(svg, "evalline", finite[i].Evaluation, x, y);
            foreach (LossPoint point in finite[i].Evaluation)
            {
                svg.Append(CultureInfo.InvariantCulture, $"<circle cx=\"{x.At(point.Step):0.##}\" cy=\"{y.At(point.Loss):0.##}\" r=\"3.5\"/>\n");
            }

            svg.Append("</g>\n");
        }

        Legend(svg, finite);
        return svg.Append("</svg>\n").ToString();
    }

    /// <summary>The mean of each point and those before it over a tenth of the run, at most 50 steps.</summary>
    private static LossPoint[] Smooth(IReadOnlyList<LossPoint> points)
    {
        int window = Math.Clamp(points.Count / 10, 1, 50);
        var result = new LossPoint[points.Count];
        for (int i = 0; i < points.Count; i++)
        {
            // Centred, so that the curve does not trail behind the steps.
            int from = Math.Max(0, i - (window / 2));
            int to = Math.Min(points.Count - 1, i + (window / 2));
            result[i] = points[i] with { Loss = points.Skip(from).Take(to - from + 1).Average(p => p.Loss) };
        }

        return result;
    }

    private static void Axes(StringBuilder svg, ChartAxis x, ChartAxis y)
    {
        foreach (double tick in y.Ticks)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<line class=\"grid\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{y.At(tick):0.##}\" y2=\"{y.At(tick):0.##}\"/>");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Left - 8}\" y=\"{y.At(tick) + 4:0.##}\" text-anchor=\"end\">{tick:0.####}</text>\n");
        }

        foreach (double tick in x.Ticks)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<line class=\"grid\" x1=\"{x.At(tick):0.##}\" x2=\"{x.At(tick):0.##}\" y1=\"{Height - Bottom}\" y2=\"{Height - Bottom + 5}\"/>");
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{x.At(tick):0.##}\" y=\"{Height - Bottom + 19}\" text-anchor=\"middle\">{tick:0}</text>\n");
        }

        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{(Left + Width - Right) / 2}\" y=\"{Height - 8}\" text-anchor=\"middle\">step</text>\n");
    }

    private static void Line(StringBuilder svg, string name, IReadOnlyList<LossPoint> points, ChartAxis x, ChartAxis y)
    {
        if (points.Count < 2)
        {
            return;
        }

        svg.Append(CultureInfo.InvariantCulture, $"<polyline class=\"{name}\" points=\"");
        foreach (LossPoint point in points)
        {
            svg.Append(CultureInfo.InvariantCulture, $"{x.At(point.Step):0.##},{y.At(point.Loss):0.##} ");
        }

        svg.Append("\"/>\n");
    }

    // From the right, each name with a square of its colour; what the strokes mean stands in the axis's line.
    private static void Legend(StringBuilder svg, LossSeries[] series)
    {
        double right = Width - Right;
        for (int i = series.Length - 1; i >= 0; i--)
        {
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{right:0.##}\" y=\"22\" text-anchor=\"end\">{Escape(series[i].Name)}</text>");
            right -= (7 * series[i].Name.Length) + 16;
            svg.Append(CultureInfo.InvariantCulture, $"<g class=\"s{i % Colours}\"><rect x=\"{right:0.##}\" y=\"13\" width=\"10\" height=\"10\"/></g>\n");
            right -= 16;
        }

        string strokes = series.Any(s => s.Evaluation.Count > 0) ? "faint: each step, line: moving average, dots: held-out" : "faint: each step, line: moving average";
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{Width - Right}\" y=\"{Height - 8}\" text-anchor=\"end\">{strokes}</text>\n");
    }

    private static LossPoint[] Finite(IReadOnlyList<LossPoint> points) => [.. points.Where(p => double.IsFinite(p.Loss))];

    private static IReadOnlyList<LossPoint> Thin(IReadOnlyList<LossPoint> points)
    {
        int stride = ((points.Count - 1) / MostPoints) + 1;
        return stride <= 1 ? points : [.. points.Where((_, i) => i % stride == 0 || i == points.Count - 1)];
    }

    private static string Escape(string text) =>
        text.Replace("&", "&amp;", StringComparison.Ordinal).Replace("<", "&lt;", StringComparison.Ordinal).Replace("\"", "&quot;", StringComparison.Ordinal);
}

using System.Xml.Linq;
using Engine.Lora;

namespace Engine.Cli.Tests;

public class LossChartTests
{
    [Fact]
    public void A_chart_is_XML_with_a_line_a_mean_and_the_held_out_points()
    {
        LossPoint[] losses = [.. Enumerable.Range(1, 100).Select(i => new LossPoint(i, 3.0 / i))];
        var svg = XDocument.Parse(LossChart.Draw([new LossSeries("run", losses, [new(50, 0.4), new(100, 0.3)])], "a < b & \"c\""));
        XNamespace name = "http://www.w3.org/2000/svg";
        Assert.Equal(["raw", "mean", "evalline"], svg.Descendants(name + "polyline").Select(l => (string?)l.Attribute("class")));
        Assert.Equal(2, svg.Descendants(name + "circle").Count());
        Assert.Contains(svg.Descendants(name + "text"), t => t.Value == "a < b & \"c\"");

        // The falling curve rises in no place: y grows downwards.
        string[] points = svg.Descendants(name + "polyline").First().Attribute("points")!.Value.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        double[] heights = [.. points.Select(p => double.Parse(p.Split(',')[1], System.Globalization.CultureInfo.InvariantCulture))];
        Assert.Equal(100, heights.Length);
        Assert.Equal(heights.Order(), heights);
    }

    [Fact]
    public void A_run_of_no_or_one_step_and_a_very_long_one_can_be_drawn()
    {
        XDocument.Parse(LossChart.Draw([], "none"));
        XDocument.Parse(LossChart.Draw([Series([])], "empty"));
        XDocument.Parse(LossChart.Draw([Series([new(1, 2)])], "one"));
        XDocument.Parse(LossChart.Draw([Series([new(1, double.NaN), new(2, 0)])], "not finite"));
        string svg = LossChart.Draw([Series([.. Enumerable.Range(1, 100_000).Select(i => new LossPoint(i, 1))])], "long");
        Assert.True(svg.Length < 100_000);
    }

    [Fact]
    public void Several_runs_have_a_colour_each_and_stand_in_the_legend()
    {
        string svg = LossChart.Draw([Series([new(1, 2), new(2, 1)]), new LossSeries("pandas", [new(1, 3), new(2, 2)], [])], "two");
        Assert.Contains("class=\"s1\"", svg, StringComparison.Ordinal);
        Assert.Contains(">pandas</text>", svg, StringComparison.Ordinal);
    }

    private static LossSeries Series(LossPoint[] points) => new("run", points, []);

    [Fact]
    public void Ticks_are_round_and_inside_the_axis()
    {
        var axis = new ChartAxis(0, 4.37, 100, 0);
        Assert.Equal([0, 1, 2, 3, 4, 5], axis.Ticks);
        Assert.Equal(100, axis.At(0));
        Assert.Equal(0, axis.At(5));
        Assert.Equal([0, 1, 2, 3], new ChartAxis(0, 3, 0, 1, wholeNumbers: true).Ticks);
    }
}

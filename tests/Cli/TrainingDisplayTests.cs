using Engine.Lora;

namespace Engine.Cli.Tests;

public sealed class TrainingDisplayTests
{
    [Theory]
    [InlineData(989e12, true)]
    [InlineData(null, false)]
    public void A_line_has_the_share_of_the_gpu_where_its_rate_is_known(double? peak, bool known)
    {
        using var error = new StringWriter();
        var console = new CommandConsole(TextReader.Null, TextWriter.Null, error);
        using (var display = new TrainingDisplay(console, quiet: false, peak: peak))
        {
            display.OnStep(new TrainingMetrics(5, 5, 1.5, 0.25, 1e-4, 100, 1000, 0.54 * 989e12));
        }

        Assert.Contains("1,000 tokens/s  ", error.ToString(), StringComparison.Ordinal);
        Assert.Equal(known, error.ToString().Contains("tokens/s  MFU 54%  ", StringComparison.Ordinal));
    }
}

using System.Text.Json;

namespace Engine.Tests.Shared;

/// <summary>
/// How far PyTorch's bf16 results are from its fp32 ones: tests/fixtures/parity/bf16-errors.json, which bf16_errors.py beside
/// it writes on a GPU. The project's rule: our bf16 error is at most twice PyTorch's, against the same fp32 results.
/// </summary>
/// <remarks>
/// Both errors are samples: each is the effect of some hundred roundings in two blocks on thousands of logits, which are
/// correlated. The root mean square of as good an implementation scatters by some tens of percent around PyTorch's and its
/// largest element by more, so that a factor of two is passed by equals and failed by an implementation that rounds more.
/// </remarks>
internal sealed class Bf16Errors
{
    private const double Factor = 2;

    private readonly Dictionary<string, Dictionary<string, (double Rms, double Max)>> _cases = new(StringComparer.Ordinal);

    /// <param name="group"><c>arch</c> or <c>lora</c>.</param>
    public Bf16Errors(string group)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(FilePath));
        foreach (JsonProperty name in document.RootElement.GetProperty(group).EnumerateObject())
        {
            _cases[name.Name] = name.Value.EnumerateObject().ToDictionary(
                e => e.Name, e => (e.Value.GetProperty("rms").GetDouble(), e.Value.GetProperty("max").GetDouble()), StringComparer.Ordinal);
        }
    }

    /// <summary>The cases of the group.</summary>
    public IEnumerable<string> Cases => _cases.Keys.Order(StringComparer.Ordinal);

    private static string FilePath => Path.Combine(Repository.PathOf("tests/fixtures/parity"), "bf16-errors.json");

    /// <summary>PyTorch's errors in one result of a case.</summary>
    public (double Rms, double Max) Of(string name, string result) => _cases[name][result];

    /// <summary>Whether a case has a result.</summary>
    public bool Has(string name, string result) => _cases[name].ContainsKey(result);

    /// <summary>Root mean square and largest of the absolute errors.</summary>
    public static (double Rms, double Max) Measure(IReadOnlyList<double> expected, IReadOnlyList<double> actual)
    {
        Assert.Equal(expected.Count, actual.Count);
        Assert.NotEmpty(expected);
        double sum = 0;
        double max = 0;
        for (int i = 0; i < expected.Count; i++)
        {
            double error = Math.Abs(actual[i] - expected[i]);
            Assert.True(double.IsFinite(error), $"index {i}: expected {expected[i]}, found {actual[i]}");
            sum += error * error;
            max = Math.Max(max, error);
        }

        return (Math.Sqrt(sum / expected.Count), max);
    }

    /// <summary>Asserts the rule for one result of a case.</summary>
    public void AssertWithinTwice(string name, string result, IReadOnlyList<double> expected, IReadOnlyList<double> actual)
    {
        (double rms, double max) = Measure(expected, actual);
        (double torchRms, double torchMax) = Of(name, result);
        Assert.True(rms <= Factor * torchRms, $"{name} {result}: the rms error is {rms:e2}, PyTorch's {torchRms:e2}");
        Assert.True(max <= Factor * torchMax, $"{name} {result}: the largest error is {max:e2}, PyTorch's {torchMax:e2}");
    }
}

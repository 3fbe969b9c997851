namespace Engine.Kernels.Tests;

/// <summary>Functions of the references, in double, by other methods than the kernels use.</summary>
internal static class Reference
{
    // Nodes and weights of the 5-point Gauss–Legendre rule on [−1, 1].
    private static readonly double[] s_nodes =
        [0, Math.Sqrt(5 - (2 * Math.Sqrt(10.0 / 7))) / 3, Math.Sqrt(5 + (2 * Math.Sqrt(10.0 / 7))) / 3];

    private static readonly double[] s_weights =
        [128.0 / 225, (322 + (13 * Math.Sqrt(70))) / 900, (322 - (13 * Math.Sqrt(70))) / 900];

    /// <summary>1 ∕ (1 + e⁻ˣ).</summary>
    public static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    /// <summary>The standard normal density.</summary>
    public static double NormalDensity(double x) => Math.Exp(-0.5 * x * x) / Math.Sqrt(2 * Math.PI);

    /// <summary>Φ(x) by integrating the density from 0 in steps of at most 1/8: the rule's error is below 1e−17 a step.</summary>
    public static double NormalDistribution(double x)
    {
        int panels = Math.Max(1, (int)Math.Ceiling(Math.Abs(x) * 8));
        double half = x / panels / 2;
        double sum = 0;
        for (int p = 0; p < panels; p++)
        {
            double middle = ((2 * p) + 1) * half;
            sum += s_weights[0] * NormalDensity(middle);
            for (int k = 1; k < 3; k++)
            {
                sum += s_weights[k] * (NormalDensity(middle - (half * s_nodes[k])) + NormalDensity(middle + (half * s_nodes[k])));
            }
        }

        return 0.5 + (sum * half);
    }

    /// <summary>One output element for each element of the inputs.</summary>
    public static double[] Map(double[] a, Func<double, double> f) => [.. a.Select(f)];

    /// <summary>One output element for each pair.</summary>
    public static double[] Map(double[] a, double[] b, Func<double, double, double> f) => [.. a.Zip(b, f)];

    /// <summary>One output element for each triple.</summary>
    public static double[] Map(double[] a, double[] b, double[] c, Func<double, double, double, double> f) =>
        [.. a.Select((value, i) => f(value, b[i], c[i]))];
}

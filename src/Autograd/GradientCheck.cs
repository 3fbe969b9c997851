using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// Compares an op's gradients with central finite differences in float64. With h = ε^(1/3)·max(1, |x|) ≈ 6e-6 the
/// truncation error is O(h²) ≈ 4e-11 and the rounding error O(ε/h) ≈ 4e-11, relative to values and third derivatives
/// of order one; the default tolerance of 1e-7 leaves room for sums over the inputs' fan-out.
/// </summary>
public static class GradientCheck
{
    /// <summary>Default tolerance, relative to max(1, |numeric gradient|).</summary>
    public const double Tolerance = 1e-7;

    /// <summary>
    /// Checks d(Σ w∘f(inputs))/d(input) for each input that requires a gradient, with fixed pseudo-random weights w.
    /// </summary>
    /// <param name="function">The op under test; called once with recording and twice an element without.</param>
    /// <param name="inputs">Float64 leaves on the host.</param>
    /// <returns>The largest error relative to max(1, |numeric|), infinite where a gradient is not a number, and where it is.</returns>
    public static (double Error, string Where) Run(Func<Tape, Variable[], Variable> function, params Variable[] inputs)
    {
        ArgumentNullException.ThrowIfNull(function);
        ArgumentNullException.ThrowIfNull(inputs);
        double[] weights;
        using (var tape = new Tape())
        using (Variable y = function(tape, inputs))
        {
            weights = Weights(checked((int)y.Value.Elements));
            tape.Backward(y, Tensor.From(weights, y.Value.Shape, y.Value.Device));
        }

        double worst = 0;
        string where = "nowhere";
        for (int i = 0; i < inputs.Length; i++)
        {
            if (!inputs[i].RequiresGrad)
            {
                continue;
            }

            double[] analytic = inputs[i].Gradient?.ToArray<double>() ?? new double[inputs[i].Value.Elements];
            inputs[i].ClearGradient();
            Span<double> values = inputs[i].Value.Span<double>();
            for (int j = 0; j < values.Length; j++)
            {
                double x = values[j];
                double h = Math.Cbrt(double.BitIncrement(1) - 1) * Math.Max(1, Math.Abs(x));
                values[j] = x + h;
                double above = Objective(function, inputs, weights);
                double upper = values[j];
                values[j] = x - h;
                double below = Objective(function, inputs, weights);
                double numeric = (above - below) / (upper - values[j]);
                values[j] = x;
                double error = Math.Abs(analytic[j] - numeric) / Math.Max(1, Math.Abs(numeric));
                if (double.IsNaN(error))
                {
                    error = double.PositiveInfinity;
                }

                if (error > worst)
                {
                    worst = error;
                    where = $"input {i}, element {j}: analytic {analytic[j]:R}, numeric {numeric:R}";
                }
            }
        }

        return (worst, where);
    }

    private static double Objective(Func<Tape, Variable[], Variable> function, Variable[] inputs, double[] weights)
    {
        using Tape tape = Tape.Inference();
        using Variable y = function(tape, inputs);
        double[] values = y.Value.ToArray<double>();
        double sum = 0;
        for (int i = 0; i < values.Length; i++)
        {
            sum += weights[i] * values[i];
        }

        return sum;
    }

    // Distinct, sign-changing weights of order one, so that no gradient cancels by symmetry. They are f32 numbers because
    // a loss takes its scalar upstream gradient as one.
    private static double[] Weights(int count)
    {
        var weights = new double[count];
        for (int i = 0; i < count; i++)
        {
            weights[i] = (float)(Math.Sin((1.7 * i) + 0.3) + (0.5 * Math.Cos(0.37 * i)));
        }

        return weights;
    }
}

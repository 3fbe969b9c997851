using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// Cosines and sines of rotary positions in f32 (and f64 on demand), for as many positions as have been asked for.
/// Frequencies: θ^(−2i/D); linear scaling divides them by a factor; the llama3 scaling keeps short wavelengths, divides
/// long ones by the factor and blends between (Llama 3.1 model card and reference implementation).
/// </summary>
public sealed class RotaryTable : IDisposable
{
    private readonly double[] _inverseFrequencies;
    private readonly Device _device;
    private Tensor? _cos;
    private Tensor? _sin;
    private Tensor? _cos64;
    private Tensor? _sin64;
    private int _positions;

    /// <summary>Fixes the frequencies; the tables [positions, headDim/2] grow with <see cref="Reserve"/>.</summary>
    public RotaryTable(int headDim, double theta, RopeScaling? scaling, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        _inverseFrequencies = InverseFrequencies(headDim, theta, scaling);
        _device = device;
    }

    /// <summary>Makes sure that positions 0 … <paramref name="positions"/> − 1 are in the tables.</summary>
    public void Reserve(int positions)
    {
        if (positions > _positions)
        {
            Dispose();
            _device.InvalidateGraphs();
            _positions = Math.Max(positions, 2 * _positions);
        }
    }

    /// <summary>The cosines in the precision that goes with activations <paramref name="like"/>.</summary>
    public Tensor Cos(Tensor like)
    {
        ArgumentNullException.ThrowIfNull(like);
        return like.DType == DType.F64 ? _cos64 ??= Build64(Math.Cos) : _cos ??= Build(Math.Cos);
    }

    /// <summary>The sines in the precision that goes with activations <paramref name="like"/>.</summary>
    public Tensor Sin(Tensor like)
    {
        ArgumentNullException.ThrowIfNull(like);
        return like.DType == DType.F64 ? _sin64 ??= Build64(Math.Sin) : _sin ??= Build(Math.Sin);
    }

    /// <summary>Radians a position, for each pair of channels.</summary>
    public static double[] InverseFrequencies(int headDim, double theta, RopeScaling? scaling)
    {
        var frequencies = new double[headDim / 2];
        for (int i = 0; i < frequencies.Length; i++)
        {
            double frequency = Math.Pow(theta, -2.0 * i / headDim);
            frequencies[i] = scaling?.Kind switch
            {
                RopeScalingKind.Linear => frequency / scaling!.Factor,
                RopeScalingKind.Llama3 => Llama3(frequency, scaling!),
                _ => frequency,
            };
        }

        return frequencies;
    }

    /// <summary>Frees the tables.</summary>
    public void Dispose()
    {
        _cos?.Dispose();
        _sin?.Dispose();
        _cos64?.Dispose();
        _sin64?.Dispose();
        _cos = _sin = _cos64 = _sin64 = null;
    }

    private static double Llama3(double frequency, RopeScaling scaling)
    {
        double rotations = scaling.OriginalMaxPositions * frequency / (2 * Math.PI);
        if (rotations < scaling.LowFreqFactor)
        {
            return frequency / scaling.Factor;
        }

        if (rotations > scaling.HighFreqFactor)
        {
            return frequency;
        }

        double blend = (rotations - scaling.LowFreqFactor) / (scaling.HighFreqFactor - scaling.LowFreqFactor);
        return ((1 - blend) * frequency / scaling.Factor) + (blend * frequency);
    }

    private Tensor Build(Func<double, double> function)
    {
        var values = new float[_positions * _inverseFrequencies.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)function(i / _inverseFrequencies.Length * _inverseFrequencies[i % _inverseFrequencies.Length]);
        }

        using DurableScope durable = _device.Durable();
        return Tensor.From(values, [_positions, _inverseFrequencies.Length], _device);
    }

    private Tensor Build64(Func<double, double> function)
    {
        var values = new double[_positions * _inverseFrequencies.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = function(i / _inverseFrequencies.Length * _inverseFrequencies[i % _inverseFrequencies.Length]);
        }

        return Tensor.From(values, [_positions, _inverseFrequencies.Length], _device);
    }
}

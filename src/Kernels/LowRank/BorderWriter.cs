using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Copies trained A and B, converted, into the borders of frozen weights: all of them by one launch on a GPU. Keeps shares of
/// the places; the sources have to stay where they are.
/// </summary>
public sealed class BorderWriter : IDisposable
{
    private readonly List<(Tensor From, Tensor To)> _copies = [];
    private BorderWriterCuda? _cuda;

    /// <summary>Number of copies.</summary>
    public int Count => _copies.Count;

    /// <summary>Adds a linear's A [rank, K] and B [N, rank], contiguous floats.</summary>
    /// <exception cref="ArgumentException">Their shapes are not those of the linear's place.</exception>
    public void Add(BorderedWeight weight, int linear, Tensor a, Tensor b)
    {
        ArgumentNullException.ThrowIfNull(weight);
        Add(a, weight.DownPlaces(linear));
        Add(b, weight.UpPlaces(linear));
    }

    /// <summary>Copies them as they are now.</summary>
    public void Run()
    {
        if (_copies.Count == 0)
        {
            return;
        }

        Device device = _copies[0].To.Device;
        switch (device.Kind)
        {
            case DeviceKind.Cpu:
                RunOnCpu();
                break;
            case DeviceKind.Cuda:
                (_cuda ??= new BorderWriterCuda((CudaDevice)device, _copies)).Run();
                break;
            default:
                throw DeviceDispatch.Unsupported(nameof(BorderWriter), device);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cuda?.Dispose();
        _copies.ForEach(static copy => copy.To.Dispose());
        _copies.Clear();
    }

    private void Add(Tensor from, IReadOnlyList<Tensor> places)
    {
        const string Op = "BorderWriter.Add";
        Check.Float(Op, from);
        foreach (Tensor place in places)
        {
            _copies.Add((from, place));
            Check.Shaped(Op, from, place.Shape);
            Check.SameDevice(Op, from, place);
        }
    }

    private void RunOnCpu()
    {
        foreach ((Tensor from, Tensor to) in _copies)
        {
            if (from.DType == to.DType)
            {
                Copy.Run(from, to);
                continue;
            }

            using Tensor converted = from.EmptyLike(to.DType);
            Cast.Run(from, converted);
            Copy.Run(converted, to);
        }
    }
}

using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>
/// Makes the tensors of a benchmark and owns them. Random values come from one block that is made once for each dtype and
/// repeated, from another place in it for each tensor: large tensors are filled at the speed of the device's own copies.
/// </summary>
internal sealed class BenchTensors(Device device) : IDisposable
{
    private const int Block = 1 << 20;

    private readonly List<Tensor> _tensors = [];
    private readonly List<IDisposable> _others = [];
    private readonly Dictionary<(DType DType, bool Positive), Tensor> _blocks = [];
    private readonly List<BorderedWeight> _weights = [];
    private long _rotation;

    /// <summary>Where the tensors are.</summary>
    public Device Device => device;

    /// <summary>Bytes of the tensors made.</summary>
    public long Bytes => _tensors.Select(t => t.Storage).Distinct().Sum(s => s.ByteLength);

    /// <summary>Standard normal values.</summary>
    public Tensor Normal(Shape shape, DType dtype) => Filled(shape, dtype, positive: false);

    /// <summary>Absolute values of standard normal ones.</summary>
    public Tensor Positive(Shape shape, DType dtype) => Filled(shape, dtype, positive: true);

    /// <summary>Content undefined: for results.</summary>
    public Tensor Empty(Shape shape, DType dtype) => Own(Tensor.Empty(shape, dtype, device));

    /// <summary>Zeros.</summary>
    public Tensor Zeros(Shape shape, DType dtype) => Own(Tensor.Zeros(shape, dtype, device));

    /// <summary>Whole numbers from 0 to <paramref name="below"/> − 1.</summary>
    public Tensor Integers(Shape shape, int below)
    {
        var random = new Random((int)++_rotation);
        var values = new int[shape.Elements];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = random.Next(below);
        }

        return Own(Tensor.From(values, shape, device));
    }

    /// <summary>Chosen whole numbers.</summary>
    public Tensor Integers(Shape shape, int[] values) => Own(Tensor.From(values, shape, device));

    /// <summary>Takes over what a benchmark made beside tensors.</summary>
    public BorderedWeight Own(BorderedWeight weight)
    {
        _weights.Add(weight);
        return weight;
    }

    /// <summary>Takes over a view.</summary>
    public Tensor Own(Tensor tensor)
    {
        _tensors.Add(tensor);
        return tensor;
    }

    /// <summary>Takes over what is no tensor; its bytes do not count.</summary>
    public T Own<T>(T other)
        where T : class, IDisposable
    {
        _others.Add(other);
        return other;
    }

    public void Dispose()
    {
        _others.ForEach(o => o.Dispose());
        _others.Clear();
        foreach (Tensor tensor in _tensors.Concat(_blocks.Values))
        {
            tensor.Dispose();
        }

        _weights.ForEach(static w => w.Dispose());
        _weights.Clear();
        _tensors.Clear();
        _blocks.Clear();
    }

    private Tensor Filled(Shape shape, DType dtype, bool positive)
    {
        Tensor tensor = Own(Tensor.Empty(shape, dtype, device));
        Tensor block = BlockOf(dtype, positive);
        long size = block.ByteLength;

        // Prime to the block's length, so that no two tensors begin alike; a multiple of no vector's width.
        long start = ++_rotation * 7919 * dtype.Size() % size;
        long filled = 0;
        while (filled < tensor.ByteLength)
        {
            long count = Math.Min(size - start, tensor.ByteLength - filled);
            device.Copy(block.Pointer + (nint)start, tensor.Pointer + (nint)filled, count);
            filled += count;
            start = 0;
        }

        return tensor;
    }

    private Tensor BlockOf(DType dtype, bool positive)
    {
        if (!_blocks.TryGetValue((dtype, positive), out Tensor? block))
        {
            using Tensor values = Tensor.Empty([Block], DType.F32, Device.Cpu);
            Span<float> span = values.Span<float>();
            RandomNumbers.Normal(1, 1, span, 1);
            for (int i = 0; positive && i < span.Length; i++)
            {
                span[i] = Math.Abs(span[i]);
            }

            // Converted on the host: a benchmark of the cast itself must not need it.
            using Tensor converted = values.EmptyLike(dtype);
            Cast.Run(values, converted);
            block = Tensor.Empty([Block], dtype, device);
            device.CopyFromHost(converted.HostBytes(), block.Pointer);
            _blocks.Add((dtype, positive), block);
        }

        return block;
    }
}

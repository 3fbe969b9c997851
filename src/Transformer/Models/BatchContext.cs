using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// What one forward pass needs beside the weights and the tape: the extent of the batch, each token's position and the
/// first key it may see, the cache when decoding, and the randomness of dropout. Rows of activations are tokens:
/// row b·Length + t.
/// </summary>
public sealed class BatchContext : IDisposable
{
    private readonly int[]? _keyStart;
    private readonly Dictionary<int, Tensor> _windowed = [];

    /// <summary>Describes a batch of <paramref name="batch"/> rows of <paramref name="length"/> tokens.</summary>
    /// <param name="device">Where the model is.</param>
    /// <param name="batch">Rows.</param>
    /// <param name="length">Tokens in each row.</param>
    /// <param name="positions">Each token's position [batch·length] (rotary or learned).</param>
    /// <param name="keyStart">First key slot each token may see [batch·length]: past left padding and earlier packed examples.</param>
    public BatchContext(Device device, int batch, int length, int[] positions, int[] keyStart)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(positions);
        Device = device;
        Batch = batch;
        Length = length;
        PositionLimit = positions.Length == 0 ? 0 : positions.Max() + 1;
        Positions = Tensor.From(positions, [batch, length], device);
        _keyStart = keyStart;
    }

    /// <summary>Describes a batch whose tensors already are on the device and whose values may change from step to step.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="length">Tokens in each row.</param>
    /// <param name="positionLimit">The highest position there can be, plus one.</param>
    /// <param name="positions">I32 [batch, length]; a share is taken.</param>
    /// <param name="keyStarts">The first visible keys for each window of the model; shares are taken.</param>
    internal BatchContext(int batch, int length, int positionLimit, Tensor positions, IEnumerable<KeyValuePair<int, Tensor>> keyStarts)
    {
        Device = positions.Device;
        Batch = batch;
        Length = length;
        PositionLimit = positionLimit;
        Positions = positions.Share();
        foreach ((int window, Tensor starts) in keyStarts)
        {
            _windowed.Add(window, starts.Share());
        }
    }

    /// <summary>Where the model is.</summary>
    public Device Device { get; }

    /// <summary>Rows in the batch.</summary>
    public int Batch { get; }

    /// <summary>Tokens in each row.</summary>
    public int Length { get; }

    /// <summary>Each token's position, I32 [Batch, Length].</summary>
    public Tensor Positions { get; }

    /// <summary>The highest position plus one.</summary>
    public int PositionLimit { get; }

    /// <summary>Keys and values of earlier tokens when decoding; null in training.</summary>
    public KvCache? Cache { get; init; }

    /// <summary>
    /// The slot of the cache that this step's token goes to, I32 [1] in device memory, for steps of one token that are
    /// recorded; the caller counts the token with <see cref="KvCache.Advance"/> then. Null: slots follow the cache's own count.
    /// </summary>
    internal Tensor? CachePosition { get; init; }

    /// <summary><see cref="CachePosition"/> plus one: the keys that the step sees, I32 [1].</summary>
    internal Tensor? CacheLength { get; init; }

    /// <summary>True while training: LoRA's dropout is active.</summary>
    public bool Training { get; init; }

    /// <summary>Seed of this run's dropout.</summary>
    public ulong DropoutSeed { get; init; }

    /// <summary>Counts micro-batches, so that each draws other dropout masks and a resumed run draws the same.</summary>
    public long DropoutStep { get; init; }

    /// <summary><see cref="DropoutStep"/> in device memory, I64 [1], for recorded steps; it counts instead of the property then.</summary>
    internal Tensor? DropoutStepTensor { get; init; }

    /// <summary>Recompute each block's activations in backward instead of keeping them.</summary>
    public bool CheckpointBlocks { get; init; }

    /// <summary>
    /// Which adapter each row of the batch uses: an index into the mixed set the adapters' owner has made active, −1 for
    /// the base alone. Null when all rows use the active adapters.
    /// </summary>
    public IReadOnlyList<int>? RowAdapters
    {
        get;
        init
        {
            field = value;
            Adapters = value is null ? null : new AdapterRows([.. value], Device);
        }
    }

    /// <summary>
    /// <see cref="RowAdapters"/> on the device, sorted there once for all linears. A caller that changes the indices from step
    /// to step sets it instead; the context takes it over.
    /// </summary>
    public AdapterRows? Adapters { get; internal init; }

    /// <summary>Plain rows of equal length: positions from zero, every token sees the whole row before it.</summary>
    public static BatchContext Dense(Device device, int batch, int length, bool training = false) =>
        new(device, batch, length, DensePositions(batch, length), new int[batch * length]) { Training = training };

    /// <summary>Positions 0 … length − 1 for each row.</summary>
    public static int[] DensePositions(int batch, int length)
    {
        var positions = new int[batch * length];
        for (int i = 0; i < positions.Length; i++)
        {
            positions[i] = i % length;
        }

        return positions;
    }

    /// <summary>
    /// The first key each token may see, I32 [Batch, Length], under a sliding window of <paramref name="window"/> keys
    /// (its own included); 0 for no window.
    /// </summary>
    public Tensor KeyStart(int window)
    {
        if (!_windowed.TryGetValue(window, out Tensor? tensor))
        {
            int[] starts = (int[])(_keyStart ?? throw new InvalidOperationException($"the batch was made without window {window}")).Clone();
            ApplyWindow(starts, Length, Cache?.Length ?? 0, window);
            tensor = Tensor.From(starts, [Batch, Length], Device);
            _windowed.Add(window, tensor);
        }

        return tensor;
    }

    /// <summary>The key of one dropout site; the same site in the same step always draws the same mask.</summary>
    public DropoutKey Dropout(int site) => DropoutStepTensor is null
        ? new(DropoutSeed, ((ulong)DropoutStep << 16) | (uint)site)
        : new(DropoutSeed, (uint)site, DropoutStepTensor);

    // A token at slot offset + i % length sees window keys, its own included; 0 for no window.
    internal static void ApplyWindow(Span<int> starts, int length, int offset, int window)
    {
        for (int i = 0; window > 0 && i < starts.Length; i++)
        {
            starts[i] = Math.Max(starts[i], offset + (i % length) - window + 1);
        }
    }

    /// <summary>Frees the index tensors.</summary>
    public void Dispose()
    {
        Positions.Dispose();
        Adapters?.Dispose();
        foreach (Tensor tensor in _windowed.Values)
        {
            tensor.Dispose();
        }

        _windowed.Clear();
    }
}

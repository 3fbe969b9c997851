using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="CacheAppend"/>.</summary>
/// <param name="Batch">Sequences.</param>
/// <param name="Entries">New entries of a sequence.</param>
/// <param name="Capacity">Slots of the cache.</param>
/// <param name="KeyHeads">Key/value heads.</param>
/// <param name="Dimension">Head dimension.</param>
/// <param name="DType">Dtype of entries and cache.</param>
public sealed record CacheAppendCase(int Batch, int Entries, int Capacity, int KeyHeads, int Dimension, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"CacheAppend.Run[{Batch}, {Entries} into {Capacity}, {KeyHeads}, {Dimension}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes => 2L * Batch * Entries * KeyHeads * Dimension * DType.Size();

    /// <inheritdoc/>
    public override long Flops => 0;

    /// <inheritdoc/>
    public override ErrorBound Error(DType dtype) => new(0, 0, 0, "a copy is exact");
}

using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Names one draw of a dropout mask: the same key draws the same mask again.</summary>
/// <param name="Seed">The run's seed.</param>
/// <param name="Stream">The place and the step it is drawn for.</param>
/// <param name="Step">
/// Optional I64 [1] on the op's device: Step[0]·2¹⁶ is added to <paramref name="Stream"/>. A recorded step draws another mask
/// each time it is replayed, because the number is read by the kernel.
/// </param>
public readonly record struct DropoutKey(ulong Seed, ulong Stream, Tensor? Step = null);

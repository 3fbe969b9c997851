using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Neighbouring rows of a batch that use one adapter.</summary>
/// <param name="Start">First row.</param>
/// <param name="Count">Number of rows; may be 0.</param>
/// <param name="A">Down-projection [r, K].</param>
/// <param name="B">Up-projection [N, r].</param>
/// <param name="Scale">α/r or α/√r.</param>
public readonly record struct RowGroup(int Start, int Count, Tensor A, Tensor B, float Scale);

using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One adapter's share of a merge: scale·B·A.</summary>
/// <param name="A">Down-projection [r, K]; any float dtype.</param>
/// <param name="B">Up-projection [N, r]; any float dtype.</param>
/// <param name="Scale">α/r or α/√r, times the adapter's weight in a combination.</param>
public readonly record struct MergeTerm(Tensor A, Tensor B, float Scale);

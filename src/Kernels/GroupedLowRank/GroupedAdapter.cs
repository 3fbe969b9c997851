using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One adapter's layer in a linear.</summary>
/// <param name="A">Down-projection [r, K].</param>
/// <param name="B">Up-projection [N, r].</param>
/// <param name="Scale">α/r or α/√r.</param>
public readonly record struct GroupedAdapter(Tensor A, Tensor B, float Scale);

/// <summary>Where an adapter's gradients go, added to; null where one is not wanted.</summary>
/// <param name="A">Like the adapter's A.</param>
/// <param name="B">Like the adapter's B.</param>
public readonly record struct GroupedGradient(Tensor? A, Tensor? B);

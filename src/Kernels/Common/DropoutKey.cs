namespace Engine.Kernels;

/// <summary>Names one draw of a dropout mask: the same key draws the same mask again.</summary>
/// <param name="Seed">The run's seed.</param>
/// <param name="Stream">The place and the step it is drawn for.</param>
public readonly record struct DropoutKey(ulong Seed, ulong Stream);

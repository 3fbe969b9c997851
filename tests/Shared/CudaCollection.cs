namespace Engine.Tests.Shared;

/// <summary>Tests of the GPU run one after another and beside no others: they share its stream, its pool and its counters.</summary>
[CollectionDefinition(nameof(CudaCollection), DisableParallelization = true)]
public sealed class CudaCollection
{
}

using Engine.Kernels.Cpu;

namespace Engine.Kernels.Tests.Cpu;

/// <summary>
/// For tests that set <see cref="CpuParallel.ThreadCount"/> or need the pool to themselves: they run beside no other test.
/// </summary>
[CollectionDefinition(nameof(CpuParallel), DisableParallelization = true)]
public sealed class CpuParallelCollection
{
}

using System.Runtime.CompilerServices;
using Engine.Kernels.Cuda;

namespace Engine.Kernels.Tests.Cuda;

[Trait("Device", "Cpu")]
public sealed class KernelClassesTests
{
    public static TheoryData<string> Classes => new(typeof(KernelImages).Assembly.GetTypes()
        .Where(static t => t.Name.EndsWith("Cuda", StringComparison.Ordinal))
        .Select(static t => t.FullName!)
        .Order(StringComparer.Ordinal));

    /// <summary>Fields that are spread over files must not need one another; without a GPU nothing else would run them.</summary>
    [Theory]
    [MemberData(nameof(Classes))]
    public void Fields_of_the_classes_that_launch_can_be_initialized(string name) =>
        RuntimeHelpers.RunClassConstructor(typeof(KernelImages).Assembly.GetType(name, throwOnError: true)!.TypeHandle);
}

using System.Diagnostics.CodeAnalysis;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Tests.Shared;

/// <summary>For tests that need a GPU: without one they are skipped with the reason, or fail when <c>ENGINE_REQUIRE_CUDA</c> is <c>1</c>.</summary>
internal static class RequireCuda
{
    public const string Variable = "ENGINE_REQUIRE_CUDA";

    /// <summary>The first GPU.</summary>
    public static CudaDevice Device()
    {
        try
        {
            return CudaDevice.Get();
        }
        catch (EngineDataException e)
        {
            // The message is that of CudaContext.WhyUnavailable, or why the one GPU there is cannot be used.
            Without(e.Message);
            throw;
        }
    }

    [DoesNotReturn]
    private static void Without(string reason)
    {
        if (Environment.GetEnvironmentVariable(Variable) is "1")
        {
            Assert.Fail($"{Variable} is 1 and there is no CUDA device: {reason}");
        }

        Assert.Skip(reason);
    }
}

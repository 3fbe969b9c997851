using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Tests.Shared;

/// <summary>
/// The device that this run tests: the CPU, or the first GPU when <c>ENGINE_TEST_DEVICE</c> is <c>cuda</c>. Tests of what
/// only the CPU has carry the trait <c>Device=Cpu</c>, by which a GPU's run leaves them out.
/// </summary>
internal static class TestDevice
{
    public const string Variable = "ENGINE_TEST_DEVICE";

    /// <summary>Whether the run is for the GPU. Opens no device: lists of test cases ask.</summary>
    public static bool IsCuda { get; } = Environment.GetEnvironmentVariable(Variable) switch
    {
        null or "" or "cpu" => false,
        "cuda" => true,
        string other => throw new InvalidOperationException($"{Variable} is \"{other}\"; expected cpu or cuda"),
    };

    /// <summary>The device.</summary>
    /// <exception cref="EngineDataException">The run is for the GPU and there is none.</exception>
    public static Device Current => IsCuda ? CudaDevice.Get() : Device.Cpu;

    /// <summary>The float dtypes that the device computes in.</summary>
    public static IReadOnlyList<DType> FloatTypes { get; } =
        IsCuda ? [DType.F32, DType.BF16, DType.F16] : [DType.F32, DType.F64, DType.BF16, DType.F16];

    /// <summary>Until it is disposed, steps are not recorded and replayed, for a test that copies in the middle of them.</summary>
    public static IDisposable WithoutGraphs() => new Eager(IsCuda ? CudaDevice.Get() : null);

    /// <summary>Whether the device computes in a dtype: double precision is the CPU's alone.</summary>
    public static bool Supports(DType dtype) => !IsCuda || dtype != DType.F64;

    private sealed class Eager : IDisposable
    {
        private readonly CudaDevice? _device;
        private readonly bool _before;

        public Eager(CudaDevice? device)
        {
            _device = device;
            _before = device?.UsesGraphs ?? false;
            device?.UsesGraphs = false;
        }

        public void Dispose() => _device?.UsesGraphs = _before;
    }
}

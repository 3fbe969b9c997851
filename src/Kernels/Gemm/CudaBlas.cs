using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Gemm;

/// <summary>
/// Matrix products of one device through cuBLASLt: row-major, free row strides, deterministic algorithms only, plans kept by
/// problem. A large problem's plan is the fastest of the library's proposals, measured once and kept on disk
/// (see <see cref="GemmPlanFile"/>); small ones take the first proposal.
/// </summary>
public sealed unsafe class CudaBlas
{
    /// <summary>Environment variable: <c>1</c> lets f32 products round their operands to TF32 (10 bits of mantissa).</summary>
    public const string Tf32Variable = "ENGINE_TF32";

    private const long WorkspaceBytes = 32 << 20;
    private const int Proposals = 8;
    private const long SmallFlops = 100_000_000;

    // Of a burst that times a candidate: about 1.5 ms on an H100, or as many launches if that is less.
    private const long BurstFlops = 1_000_000_000_000;
    private const int MostBurst = 8;

    private static readonly ConcurrentDictionary<CudaDevice, CudaBlas> s_instances = new();

    private readonly CudaDevice _device;
    private readonly nint _handle;
    private readonly nint _workspace;
    private readonly GemmPlanFile _file;
    private readonly Lock _lock = new();
    private readonly Dictionary<GemmProblem, GemmPlan?> _plans = [];

    private CudaBlas(CudaDevice device)
    {
        if (!CudaLibraries.TryLoad(CublasLt.Library, out _, out string? failure))
        {
            throw new EngineDataException(failure);
        }

        _device = device;
        device.Context.MakeCurrent();
        nint handle;
        Check(CublasLt.cublasLtCreate(&handle));
        _handle = handle;
        Version = (int)CublasLt.cublasLtGetVersion();
        _workspace = device.Reserve(WorkspaceBytes);
        _file = new GemmPlanFile($"cublasLt {Version} reductions {CublasLt.PreciseReductions} {device.Context.DeviceName} {device.Context.ComputeCapability} {device.Context.Multiprocessors}");
        UsesTf32 = Environment.GetEnvironmentVariable(Tf32Variable) is "1";
    }

    /// <summary>The library's version, such as 130000.</summary>
    public int Version { get; }

    /// <summary>Whether f32 products use TF32; off unless asked for.</summary>
    public bool UsesTf32
    {
        get;
        set
        {
            if (field != value)
            {
                // Recorded products are of the other kind.
                _device.InvalidateGraphs();
                field = value;
            }
        }
    }

    /// <summary>Plans measured by this process.</summary>
    public int Measured { get; private set; }

    /// <summary>The products of a device.</summary>
    /// <exception cref="EngineDataException">cuBLASLt is not there; the message lists what was tried.</exception>
    public static CudaBlas Of(CudaDevice device) => s_instances.GetOrAdd(device, static d => new CudaBlas(d));

    /// <summary>Queues a product; false when the library has no algorithm for the problem's layout.</summary>
    internal bool TryRun(in GemmProblem problem, nint a, nint b, nint c, nint operand, float alpha, float beta)
    {
        _device.Context.MakeCurrent();
        GemmPlan? plan;
        lock (_lock)
        {
            if (!_plans.TryGetValue(problem, out plan))
            {
                plan = Plan(problem, a, b, beta == 0 ? c : 0, operand);
            }
        }

        if (plan is null)
        {
            return false;
        }

        _device.Profiler?.Before(plan.Name, new KernelWork(problem.Bytes, problem.Flops));
        int status = plan.Launch(
            _handle, plan.Algorithm, (void*)a, (void*)b, (void*)c, (void*)operand, alpha, beta, (void*)_workspace, WorkspaceBytes, _device.Stream.Handle);
        Check(status, plan.Name);
        _device.Profiler?.After();
        if (_device.SynchronizesLaunches && !_device.Stream.IsCapturing)
        {
            _device.Stream.Synchronize();
        }

        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Check(int status, [CallerArgumentExpression(nameof(status))] string call = "")
    {
        if (status != CublasLt.Success)
        {
            Throw(status, call);
        }
    }

    [DoesNotReturn]
    private static void Throw(int status, string call) => throw new InvalidOperationException(
        $"cuBLASLt: {call.Split('(')[0].Split('.')[^1]} failed with {Marshal.PtrToStringUTF8((nint)CublasLt.cublasLtGetStatusString(status))} ({status})" +
        (status == CublasLt.ExecutionFailed ? $"; work queued earlier may be to blame: set {CudaDevice.SynchronizeVariable}=1 to find the kernel" : ""));

    private GemmPlan? Plan(in GemmProblem problem, nint a, nint b, nint c, nint operand)
    {
        var plan = new GemmPlan(problem);
        if (_file.TryGet(problem, out GemmAlgorithm known))
        {
            plan.Algorithm = known;
            _plans.Add(problem, plan);
            return plan;
        }

        GemmCandidate[] candidates = plan.Candidates(_handle, WorkspaceBytes, Proposals);
        if (candidates.Length == 0)
        {
            plan.Dispose();
            _plans.Add(problem, null);
            return null;
        }

        plan.Algorithm = candidates[0].Algorithm;
        bool measurable = problem.Flops >= SmallFlops && candidates.Length > 1 && _file.IsWritable;
        if (measurable && _device.Stream.IsCapturing)
        {
            // Not kept: the next run outside a recording measures.
            return plan;
        }

        if (measurable && Fastest(plan, candidates, a, b, c, operand) is { } best)
        {
            plan.Algorithm = _file.Add(problem, best.Algorithm, best.Microseconds);
            Measured++;
        }

        _plans.Add(problem, plan);
        return plan;
    }

    // Times every candidate on the real operands, whose numbers decide what power a product takes, in bursts, in which the GPU comes
    // to the clock that this power leaves it, and into the real result, which is written again afterwards. A result that is added to
    // (c is 0 then) is replaced by scratch memory.
    private (GemmAlgorithm Algorithm, double Microseconds)? Fastest(
        GemmPlan plan, GemmCandidate[] candidates, nint a, nint b, nint c, nint operand)
    {
        const int Rounds = 3;
        GemmProblem p = plan.Problem;
        try
        {
            using Tensor? scratch = c == 0 ? Scratch(p) : null;
            nint result = scratch?.Pointer ?? c;
            using var start = new CudaEvent(timing: true);
            using var end = new CudaEvent(timing: true);
            var best = new double[candidates.Length];
            Array.Fill(best, double.PositiveInfinity);
            int burst = (int)Math.Clamp(BurstFlops / p.Flops, 1, MostBurst);
            for (int round = 0; round <= Rounds; round++)
            {
                for (int i = 0; i < candidates.Length; i++)
                {
                    int launches = round == 0 ? 1 : burst;
                    int status = CublasLt.Success;
                    start.Record(_device.Stream);
                    for (int n = 0; n < launches && status == CublasLt.Success; n++)
                    {
                        status = plan.Launch(
                            _handle, candidates[i].Algorithm, (void*)a, (void*)b, (void*)result, (void*)operand, 1, 0,
                            (void*)_workspace, WorkspaceBytes, _device.Stream.Handle);
                    }

                    end.Record(_device.Stream);
                    end.Synchronize();

                    // The first round loads code and warms up.
                    if (status == CublasLt.Success && round > 0)
                    {
                        best[i] = Math.Min(best[i], 1000.0 * end.MillisecondsSince(start) / launches);
                    }
                }
            }

            int fastest = 0;
            for (int i = 1; i < best.Length; i++)
            {
                fastest = best[i] < best[fastest] ? i : fastest;
            }

            return double.IsFinite(best[fastest]) ? (candidates[fastest].Algorithm, best[fastest]) : null;
        }
        catch (DeviceOutOfMemoryException)
        {
            return null;
        }
    }

    private Tensor Scratch(in GemmProblem p)
    {
        long elements = ((p.Batch - 1) * p.BatchStrideC) + (p.M * p.StrideC);
        return Tensor.Empty([checked((int)((elements + 63) / 64)), 64], p.ResultType, _device);
    }
}

using System.Collections.Concurrent;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>
/// Kernels that differ in the dtype they store alone: entry points <c>name_f32</c>, <c>name_bf16</c>, <c>name_f16</c> of one
/// op's image (or <c>name</c> alone for <see cref="Untyped"/>), all with the same parameter struct, whose size the image
/// exports as <c>name_params</c>.
/// </summary>
/// <typeparam name="T">The parameter struct, laid out as in the kernel's source.</typeparam>
/// <param name="op">The op: the stem of the image.</param>
/// <param name="name">The entry points' common part.</param>
internal sealed unsafe class KernelFamily<T>(string op, string name)
    where T : unmanaged
{
    private static readonly int s_types = Enum.GetValues<DType>().Length;

    // One slot for each dtype and one for the untyped kernel; replaced as a whole when another device comes.
    private readonly ConcurrentDictionary<CudaDevice, Slots> _devices = new();

    // Those of the device used last.
    private volatile Slots? _slots;

    /// <summary>Queues the kernel for a dtype.</summary>
    public void Launch(Device device, DType dtype, in LaunchShape shape, in T parameters, KernelWork work = default)
    {
        var cuda = (CudaDevice)device;
        Of(cuda, dtype).Launch(cuda, in shape, in parameters, work);
    }

    /// <summary>Queues the kernel that has no dtype.</summary>
    public void Launch(Device device, in LaunchShape shape, in T parameters, KernelWork work = default)
    {
        var cuda = (CudaDevice)device;
        Untyped(cuda).Launch(cuda, in shape, in parameters, work);
    }

    /// <summary>Whether the image that the device loads has these kernels.</summary>
    public bool IsIn(Device device)
    {
        Slots slots = SlotsOf((CudaDevice)device);
        return slots.Present ??= IsInImage(slots.Device);
    }

    /// <summary>The kernel for a dtype.</summary>
    public CudaKernel Of(CudaDevice device, DType dtype)
    {
        Slots slots = SlotsOf(device);
        return slots.Kernels[(int)dtype] ??= Load(device, dtype switch
        {
            DType.F32 or DType.BF16 or DType.F16 => $"{name}_{dtype.Name()}",
            _ => throw new NotSupportedException(
                $"{op} computes in f32, bf16 or f16 on {device.Name}, not in {dtype.Name()}; move the tensors to the cpu"),
        });
    }

    /// <summary>The kernel that has no dtype.</summary>
    public CudaKernel Untyped(CudaDevice device)
    {
        Slots slots = SlotsOf(device);
        return slots.Kernels[s_types] ??= Load(device, name);
    }

    private Slots SlotsOf(CudaDevice device)
    {
        Slots? slots = _slots;
        return slots is not null && slots.Device == device
            ? slots
            : _slots = _devices.GetOrAdd(device, static d => new Slots(d, new CudaKernel?[s_types + 1]));
    }

    private bool IsInImage(CudaDevice device)
    {
        device.Context.MakeCurrent();
        return KernelImages.Load(device, op).Constant(name + "_params") is not null;
    }

    private CudaKernel Load(CudaDevice device, string entry)
    {
        device.Context.MakeCurrent();
        CudaModule module = KernelImages.Load(device, op);
        uint? size = module.Constant(name + "_params");
        return size == sizeof(T)
            ? module.Kernel(entry)
            : throw new InvalidOperationException(
                $"{module.Name}: {name} takes {size?.ToString() ?? "an unknown number of"} bytes of parameters and {typeof(T).Name} has {sizeof(T)}; the image is of another version");
    }

    private sealed record Slots(CudaDevice Device, CudaKernel?[] Kernels)
    {
        public bool? Present { get; set; }
    }
}

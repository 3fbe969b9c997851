using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Slots in device memory, and the launch that updates them. Holds addresses: the slots' tensors outlive it.</summary>
internal sealed class AdamWCuda : IDisposable
{
    private const int Threads = 256;

    private static readonly KernelFamily<StepParams> s_step = new("adamw", "adamw_step");

    private readonly CudaDevice _device;
    private readonly CudaDeviceVariable<SlotEntry> _slots;
    private readonly long _bytes;

    /// <summary>Uploads the tables; not while work is recorded.</summary>
    /// <exception cref="NotSupportedException">A dtype is not one that kernels store.</exception>
    public AdamWCuda(string op, IReadOnlyList<AdamWSlot> slots)
    {
        _device = CudaLaunch.Device(slots[0].Parameter);
        Gradients = new TensorTable(op, _device, [.. slots.Select(s => s.Gradient)]);
        var entries = new SlotEntry[slots.Count];
        for (int i = 0; i < entries.Length; i++)
        {
            AdamWSlot slot = slots[i];
            KernelTypes.Require(op, slot.Parameter);
            nint master = CudaLaunch.PointerOf(slot.Master);
            bool vectors = CudaLaunch.Aligned(slot.Parameter.Pointer | slot.FirstMoment.Pointer | slot.SecondMoment.Pointer | master);
            entries[i] = new SlotEntry
            {
                Parameter = slot.Parameter.Pointer,
                FirstMoment = slot.FirstMoment.Pointer,
                SecondMoment = slot.SecondMoment.Pointer,
                Master = master,
                ParameterType = (int)slot.Parameter.DType,
                Vectors = vectors ? 1 : 0,
            };
            _bytes += new AdamWCase(slot.Parameter.Elements, slot.Parameter.DType, slot.Master is not null).Bytes;
        }

        _slots = new CudaDeviceVariable<SlotEntry>(_device, entries.Length);
        _slots.CopyToDevice(entries);
    }

    /// <summary>Bytes of the step's numbers.</summary>
    public static int NumbersBytes => Unsafe.SizeOf<Numbers>();

    /// <summary>The gradients' table.</summary>
    public TensorTable Gradients { get; }

    /// <summary>Makes one step; the arguments have been checked.</summary>
    public static void Step(IReadOnlyList<AdamWSlot> slots, in AdamWStep step)
    {
        using var tables = new AdamWCuda("AdamW.Step", slots);
        Span<byte> bytes = stackalloc byte[NumbersBytes];
        WriteNumbers(in step, null, bytes);
        using Tensor numbers = Tensor.Empty([bytes.Length], DType.U8, slots[0].Parameter.Device);
        numbers.CopyFrom<byte>(bytes);
        tables.Launch(numbers, null, null, clear: false);
    }

    /// <summary>Lays a step's numbers out as the kernel reads them.</summary>
    public static void WriteNumbers(in AdamWStep step, double? clip, Span<byte> bytes)
    {
        var c = new AdamWCoefficients<float>(step);
        var numbers = new Numbers
        {
            GradientScale = step.GradientScale,
            Clip = clip ?? double.PositiveInfinity,
            Decay = c.Decay,
            Beta1 = c.Beta1,
            OneMinusBeta1 = c.OneMinusBeta1,
            Beta2 = c.Beta2,
            OneMinusBeta2 = c.OneMinusBeta2,
            MinusStepSize = c.MinusStepSize,
            RootCorrection2 = c.RootCorrection2,
            Epsilon = c.Epsilon,
            NearOld = c.NearOld ? 1 : 0,
        };
        MemoryMarshal.Write(bytes, in numbers);
    }

    /// <summary>Queues the update.</summary>
    /// <param name="numbers">What <see cref="WriteNumbers"/> wrote.</param>
    /// <param name="norm">The gradients' norm, to clip with and to test; null: neither.</param>
    /// <param name="loss">F32 or f64, to test; null: not tested.</param>
    /// <param name="clear">Whether the gradients become zero.</param>
    public void Launch(Tensor numbers, Tensor? norm, Tensor? loss, bool clear) => s_step.Launch(
        _device,
        LaunchShape.Blocks(Gradients.ChunkCount, Threads),
        new StepParams
        {
            Gradients = Gradients.Tensors,
            Slots = _slots.DevicePointer,
            Chunks = Gradients.Chunks,
            Numbers = numbers.Pointer,
            Norm = CudaLaunch.PointerOf(norm),
            Loss = CudaLaunch.PointerOf(loss),
            LossType = (int)(loss?.DType ?? DType.F32),
            Clear = clear ? 1 : 0,
        },
        new KernelWork(_bytes + (clear ? Gradients.Bytes : 0), 16 * Gradients.Elements));

    /// <inheritdoc/>
    public void Dispose()
    {
        Gradients.Dispose();
        _slots.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SlotEntry
    {
        public nint Parameter;
        public nint FirstMoment;
        public nint SecondMoment;
        public nint Master;
        public int ParameterType;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Numbers
    {
        public double GradientScale;
        public double Clip;
        public float Decay;
        public float Beta1;
        public float OneMinusBeta1;
        public float Beta2;
        public float OneMinusBeta2;
        public float MinusStepSize;
        public float RootCorrection2;
        public float Epsilon;
        public int NearOld;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct StepParams
    {
        public nint Gradients;
        public nint Slots;
        public nint Chunks;
        public nint Numbers;
        public nint Norm;
        public nint Loss;
        public int LossType;
        public int Clear;
    }
}

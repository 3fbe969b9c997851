using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>The plan on a GPU: two launches, for the norm and for all else, over tables that stay on the device.</summary>
internal sealed class AdamWPlanCuda : AdamWPlan
{
    private readonly CudaDevice _device;
    private readonly AdamWCuda _slots;
    private readonly GradientNormCuda _gradientNorm;
    private readonly StagedTensor _numbers;
    private readonly CudaEvent _sent;
    private bool _isDisposed;

    public AdamWPlanCuda(IReadOnlyList<AdamWSlot> slots)
    {
        _device = CudaLaunch.Device(slots[0].Parameter);
        using DurableScope durable = _device.Durable();
        _slots = new AdamWCuda("AdamWPlan.Create", slots);
        _gradientNorm = new GradientNormCuda(_device, _slots.Gradients);
        Norm = Tensor.Zeros([1], DType.F64, _device);
        _numbers = new StagedTensor([AdamWCuda.NumbersBytes], DType.U8, _device);
        _device.Context.MakeCurrent();
        _sent = new CudaEvent();
    }

    public override Tensor Norm { get; }

    private protected override void Send(in AdamWStep step, double? clip)
    {
        // The copy of the step before may still wait in the stream; an event that was never recorded is reached.
        _device.Context.MakeCurrent();
        _sent.Synchronize();
        AdamWCuda.WriteNumbers(in step, clip, _numbers.Host<byte>());
        _numbers.Upload();
        _sent.Record(_device.Stream);
    }

    private protected override void Queue(Tensor? loss)
    {
        _gradientNorm.Compute(Norm);
        _slots.Launch(_numbers.Tensor, Norm, loss, clear: true);
    }

    protected override void Dispose(bool disposing)
    {
        if (_isDisposed || !disposing)
        {
            return;
        }

        _isDisposed = true;
        _device.InvalidateGraphs();

        // The host's side of the numbers may still be read.
        _device.Settle();
        _sent.Dispose();
        _numbers.Dispose();
        _gradientNorm.Dispose();
        _slots.Dispose();
        Norm.Dispose();
    }
}

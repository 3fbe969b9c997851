using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Tests.Shared;

/// <summary>
/// The run's device for a test that counts what is alive: a CPU device of its own, or the shared GPU, counted from here on.
/// A GPU's run has no other test beside it.
/// </summary>
internal sealed class CountedDevice
{
    private readonly long _storages;
    private readonly long _bytes;

    public CountedDevice()
    {
        Device = TestDevice.IsCuda ? CudaDevice.Get() : new CpuDevice();
        _storages = Device.LiveStorages;
        _bytes = Device.LiveBytes;
    }

    public Device Device { get; }

    /// <summary>Storages that are alive now and were not at the start.</summary>
    public long LiveStorages => Device.LiveStorages - _storages;

    /// <summary>Their bytes.</summary>
    public long LiveBytes => Device.LiveBytes - _bytes;

    /// <summary>The highest <see cref="LiveBytes"/> since <see cref="ResetPeak"/>.</summary>
    public long PeakBytes => Device.PeakBytes - _bytes;

    public static implicit operator Device(CountedDevice counted) => counted.Device;

    public void ResetPeak() => Device.ResetPeak();

    public string LeakReport() => Device.LeakReport();
}

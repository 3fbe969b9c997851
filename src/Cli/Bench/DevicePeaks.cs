using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>What the device was measured to do at best, for shares of it.</summary>
/// <param name="CopyBytesPerSecond">A copy within the device's memory, bytes read and written; NaN when not measured.</param>
/// <param name="MatMulFlopsPerSecond">A bf16 matrix product; NaN when not measured.</param>
internal sealed record DevicePeaks(double CopyBytesPerSecond, double MatMulFlopsPerSecond)
{
    private const int Samples = 9;
    private const int Extent = 8192;

    /// <summary>Measures a copy of 1 GiB and, on devices made for it, the product of two bf16 matrices of 8192 × 8192.</summary>
    public static DevicePeaks Measure(Device device)
    {
        bool fast = device.PrefersNarrowTypes;
        var peaks = new DevicePeaks(Copy(device, fast ? 1 << 30 : 1 << 26), fast ? MatMulRate(device) : double.NaN);
        device.Trim();
        return peaks;
    }

    /// <summary>For example <c>copy 4,105 GB/s, bf16 matrix product 712.3 TFLOP/s</c>.</summary>
    public override string ToString() => double.IsNaN(MatMulFlopsPerSecond)
        ? $"copy {Results.Figure(CopyBytesPerSecond / 1e9)} GB/s"
        : $"copy {Results.Figure(CopyBytesPerSecond / 1e9)} GB/s, bf16 matrix product {Results.Figure(MatMulFlopsPerSecond / 1e12)} TFLOP/s";

    private static double Copy(Device device, int bytes)
    {
        try
        {
            using Tensor source = Tensor.Zeros([bytes], DType.U8, device);
            using Tensor target = source.Clone();
            double[] times = DeviceTimer.Microseconds(device, Samples, _ => device.Copy(source.Pointer, target.Pointer, bytes));
            return 2e6 * bytes / DeviceTimer.Median(times);
        }
        catch (DeviceOutOfMemoryException)
        {
            return double.NaN;
        }
    }

    private static double MatMulRate(Device device)
    {
        try
        {
            using var tensors = new BenchTensors(device);
            Tensor a = tensors.Normal([Extent, Extent], DType.BF16);
            Tensor b = tensors.Normal([Extent, Extent], DType.BF16);
            Tensor c = tensors.Empty([Extent, Extent], DType.BF16);
            MatMul.Run(a, false, b, true, c);
            double[] times = DeviceTimer.Microseconds(device, Samples, _ => MatMul.Run(a, false, b, true, c));
            return 1e6 * new MatMulCase(Extent, Extent, Extent, DType.BF16).Flops / DeviceTimer.Median(times);
        }
        catch (DeviceOutOfMemoryException)
        {
            return double.NaN;
        }
    }
}

using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli;

/// <summary>What a GPU's data sheet promises for dense matrix products in bf16 and f16 with f32 sums, FLOP/s: what MFU is a share of.</summary>
internal static class NominalPeak
{
    // The longer name first where one begins with another. Sources: NVIDIA's data sheets, without sparsity.
    private static readonly (string Name, double Flops)[] s_peaks =
    [
        ("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200 NVL", 836e12), ("H200", 989e12), ("GH200", 989e12), ("A100", 312e12),
        ("L40S", 362e12), ("L40", 181e12), ("L4", 121e12), ("A10", 125e12), ("RTX 4090", 165e12), ("RTX 3090", 71e12),
    ];

    /// <summary>The rate, or null where the device is not known or the dtype is another.</summary>
    public static double? Of(Device device, DType dtype) =>
        device is CudaDevice cuda && dtype is DType.BF16 or DType.F16 ? Of(cuda.Context.DeviceName) : null;

    /// <summary>
    /// The rate of a GPU by the name that its driver gives it, such as <c>NVIDIA H100 80GB HBM3</c>; null also for a part of one (MIG).
    /// </summary>
    public static double? Of(string deviceName)
    {
        if (deviceName.Contains(" MIG ", StringComparison.Ordinal))
        {
            return null;
        }

        foreach ((string name, double flops) in s_peaks)
        {
            int at = deviceName.IndexOf(name, StringComparison.Ordinal);
            int end = at + name.Length;
            bool whole = at >= 0 && (at == 0 || deviceName[at - 1] == ' ') && (end == deviceName.Length || deviceName[end] is ' ' or '-');
            if (whole)
            {
                return flops;
            }
        }

        return null;
    }
}

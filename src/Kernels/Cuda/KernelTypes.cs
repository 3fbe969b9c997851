using Engine.Tensors;

namespace Engine.Kernels.Cuda;

/// <summary>
/// The dtypes that kernels store. <see cref="KernelFamily{T}"/> checks the dtype that chooses the entry point; an operand
/// whose dtype the kernel is told at run time is checked here.
/// </summary>
internal static class KernelTypes
{
    /// <summary>Refuses what is not f32, bf16 or f16.</summary>
    /// <exception cref="NotSupportedException">The dtype is another one.</exception>
    public static void Require(string op, Tensor tensor) => _ = Code(op, tensor.Device, tensor.DType);

    /// <summary>What a kernel is told an operand's dtype by.</summary>
    /// <inheritdoc cref="Require"/>
    public static int Code(string op, Tensor tensor) => Code(op, tensor.Device, tensor.DType);

    /// <inheritdoc cref="Code(string, Tensor)"/>
    public static int Code(string op, Device device, DType dtype) => dtype is DType.F32 or DType.BF16 or DType.F16
        ? (int)dtype
        : throw new NotSupportedException(
            $"{op} computes in f32, bf16 or f16 on {device.Name}, not in {dtype.Name()}; move the tensors to the cpu");
}

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
    public static void Require(string op, Tensor tensor)
    {
        if (tensor.DType is not (DType.F32 or DType.BF16 or DType.F16))
        {
            throw new NotSupportedException(
                $"{op} computes in f32, bf16 or f16 on {tensor.Device.Name}, not in {tensor.DType.Name()}; move the tensors to the cpu");
        }
    }
}

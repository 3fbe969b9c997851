using Engine.Kernels.Gemm;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Tests;

/// <summary>What products on the GPU have beyond those on the CPU: plans, TF32, the bias on the way out.</summary>
[Collection(nameof(CudaCollection))]
public sealed class CudaBlasTests
{
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void A_bias_is_added_to_every_row(DType dtype)
    {
        CudaDevice device = RequireCuda.Device();
        var random = new Random(1);
        using Tensor a = Matrix(random, 33, 64, dtype, device);
        using Tensor b = Matrix(random, 48, 64, dtype, device);
        using Tensor bias = Matrix(random, 1, 48, dtype, device).Reshape(48);
        using Tensor plain = Tensor.Empty([33, 48], DType.F32, device);
        using Tensor biased = Tensor.Empty([33, 48], dtype, device);
        Kernels.MatMul.Run(a, false, b, true, plain);
        Kernels.MatMul.Run(a, false, b, true, biased, bias: bias);
        float[] expected = plain.ToArray<float>();
        float[] added = Floats(bias);
        float[] actual = Floats(biased);
        for (int i = 0; i < actual.Length; i++)
        {
            // One rounding of the sum to the dtype; the products may sum in another order (64 terms in f32).
            double exact = expected[i] + added[i % 48];
            double allowed = (ErrorBound.UnitRoundoff(dtype) * Math.Abs(exact)) + (64 * Math.Pow(2, -24) * 64);
            Assert.InRange(actual[i], exact - allowed, exact + allowed);
        }
    }

    [Fact]
    public void Tf32_is_off_unless_asked_for()
    {
        CudaDevice device = RequireCuda.Device();
        CudaBlas blas = CudaBlas.Of(device);
        var random = new Random(2);
        using Tensor a = Matrix(random, 256, 256, DType.F32, device);
        using Tensor b = Matrix(random, 256, 256, DType.F32, device);
        using Tensor exact = Tensor.Empty([256, 256], DType.F32, device);
        using Tensor rounded = exact.EmptyLike();
        bool before = blas.UsesTf32;
        try
        {
            blas.UsesTf32 = false;
            Kernels.MatMul.Run(a, false, b, false, exact);
            blas.UsesTf32 = true;
            Kernels.MatMul.Run(a, false, b, false, rounded);
        }
        finally
        {
            blas.UsesTf32 = before;
        }

        using Tensor ca = a.To(Device.Cpu);
        using Tensor cb = b.To(Device.Cpu);
        using Tensor reference = Tensor.Empty([256, 256], DType.F32, Device.Cpu);
        Kernels.MatMul.Run(ca, false, cb, false, reference);
        double full = Distance(exact.ToArray<float>(), reference.ToArray<float>());
        double tf32 = Distance(rounded.ToArray<float>(), reference.ToArray<float>());

        // Two f32 sums of 256 products differ by at most 2·256·2⁻²⁴ of Σ|a||b|, which is below 40 times a root mean square of
        // 16 here; TF32 keeps 11 bits, so that its products are off by up to 2⁻¹¹ each.
        Assert.InRange(full, 0, 2 * 256 * Math.Pow(2, -24));
        Assert.InRange(tf32, 20 * full, 1e-2);
    }

    [Fact]
    public void A_large_product_gives_the_same_bits_again()
    {
        CudaDevice device = RequireCuda.Device();
        var random = new Random(3);
        using Tensor a = Matrix(random, 512, 1024, DType.BF16, device);
        using Tensor b = Matrix(random, 768, 1024, DType.BF16, device);
        using Tensor c = Tensor.Empty([512, 768], DType.BF16, device);
        Kernels.MatMul.Run(a, false, b, true, c);
        ushort[] first = Bits(c);
        for (int i = 0; i < 5; i++)
        {
            c.Clear();
            Kernels.MatMul.Run(a, false, b, true, c);
            Assert.Equal(first, Bits(c));
        }
    }

    private static ushort[] Bits(Tensor tensor) =>
        [.. System.Runtime.InteropServices.MemoryMarshal.Cast<BFloat16, ushort>(tensor.ToArray<BFloat16>())];

    private static float[] Floats(Tensor tensor)
    {
        using Tensor f32 = tensor.EmptyLike(DType.F32);
        Cast.Run(tensor, f32);
        return f32.ToArray<float>();
    }

    // ‖x − y‖ ∕ ‖y‖
    private static double Distance(float[] x, float[] y)
    {
        double difference = 0;
        double norm = 0;
        for (int i = 0; i < x.Length; i++)
        {
            difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
            norm += (double)y[i] * y[i];
        }

        return Math.Sqrt(difference / norm);
    }

    private static Tensor Matrix(Random random, int rows, int columns, DType dtype, Device device)
    {
        var values = new float[rows * columns];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)((2 * random.NextDouble()) - 1);
        }

        Tensor f32 = Tensor.From(values, [rows, columns], device);
        if (dtype == DType.F32)
        {
            return f32;
        }

        using (f32)
        {
            Tensor result = f32.EmptyLike(dtype);
            Cast.Run(f32, result);
            return result;
        }
    }
}

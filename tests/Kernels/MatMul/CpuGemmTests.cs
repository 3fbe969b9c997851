using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests.MatMul;

/// <summary>The matrix product against a naive reference in double, within the bound that <see cref="GemmCase"/> derives.</summary>
[Collection(nameof(CpuParallel))]
[Trait("Device", "Cpu")]
public sealed class CpuGemmTests : IDisposable
{
    private static readonly int[] s_sizes = [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129];

    private readonly int _threads = CpuParallel.ThreadCount;
    private readonly int _bits = CpuGemm.VectorBits;

    public static TheoryData<int> Widths
    {
        get
        {
            var data = new TheoryData<int>();
            for (int bits = 128; bits <= CpuGemm.MaxVectorBits; bits *= 2)
            {
                data.Add(bits);
            }

            return data;
        }
    }

    public void Dispose()
    {
        CpuParallel.ThreadCount = _threads;
        CpuGemm.VectorBits = _bits;
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Odd_sizes_strides_transposes_and_factors(int bits)
    {
        CpuGemm.VectorBits = bits;
        var random = new Random(bits);
        double[] factors = [0, 1, -1, 0.5, -1.75];
        for (int round = 0; round < 400; round++)
        {
            (int m, int n, int k) = (Pick(random), Pick(random), Pick(random));
            DType type = round % 4 == 3 ? DType.F64 : DType.F32;
            var test = new GemmCase(round % 2 == 1, round / 2 % 2 == 1, m, n, k, round, round % 3 * 3, typeA: type, typeB: type, typeC: type);
            test.Check(1, 0);
            test.Check(factors[random.Next(factors.Length)], factors[random.Next(factors.Length)]);
        }

        static int Pick(Random random) => s_sizes[random.Next(s_sizes.Length)];
    }

    // Each kind of shape that takes a path of its own: tall and square tiles, cut k, rows read in place, dot products,
    // narrow results, several steps of k.
    [Theory]
    [InlineData(false, false, 257, 301, 410)]
    [InlineData(false, true, 500, 192, 256)]
    [InlineData(true, false, 192, 96, 1500)]
    [InlineData(true, false, 8, 200, 2100)]
    [InlineData(true, false, 200, 8, 2100)]
    [InlineData(true, false, 130, 24, 300)]
    [InlineData(true, false, 16, 540, 1300)]
    [InlineData(true, true, 70, 9, 1033)]
    [InlineData(false, false, 300, 8, 512)]
    [InlineData(false, true, 101, 20, 1024)]
    [InlineData(false, false, 110, 530, 90)]
    [InlineData(false, true, 300, 8, 512)]
    [InlineData(false, true, 300, 272, 8)]
    [InlineData(false, false, 20, 333, 800)]
    [InlineData(false, false, 1, 1000, 96)]
    [InlineData(false, true, 1, 1001, 515)]
    [InlineData(true, true, 6, 130, 1111)]
    [InlineData(false, true, 16, 130, 1024)]
    public void Shapes_of_training_and_decoding(bool transA, bool transB, int m, int n, int k)
    {
        var tight = new GemmCase(transA, transB, m, n, k, m + n + k);
        var padded = new GemmCase(transA, transB, m, n, k, m + n + k, 5);
        var wide = new GemmCase(transA, transB, m, n, k, m * n, 1, typeA: DType.F64, typeB: DType.F64, typeC: DType.F64);
        for (int bits = 128; bits <= CpuGemm.MaxVectorBits; bits *= 2)
        {
            CpuGemm.VectorBits = bits;
            tight.Check();
            padded.Check(0.5, 1);
            wide.Check(2, -0.5);
        }
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void Storage_as_bf16_and_f16(int bits)
    {
        CpuGemm.VectorBits = bits;
        DType[] types = [DType.F32, DType.BF16, DType.F16];
        (int M, int N, int K)[] shapes = [(1, 70, 130), (5, 33, 65), (16, 130, 600), (37, 19, 129), (70, 65, 500), (9, 8, 1300)];
        int seed = 0;
        foreach (DType a in types)
        {
            foreach (DType b in types)
            {
                foreach (DType c in types)
                {
                    foreach ((int m, int n, int k) in shapes)
                    {
                        var test = new GemmCase(seed % 2 == 1, seed / 2 % 2 == 1, m, n, k, seed++, seed % 5, typeA: a, typeB: b, typeC: c);
                        test.Check();
                        test.Check(0.25, 0.5);
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Batches_with_strides_and_shared_operands(bool transA, bool transB)
    {
        int seed = 7;
        foreach ((int m, int n, int k) in new[] { (1, 40, 70), (33, 17, 65), (64, 96, 32), (50, 200, 700) })
        {
            new GemmCase(transA, transB, m, n, k, seed++, 3, batch: 5).Check();
            new GemmCase(transA, transB, m, n, k, seed++, 0, batch: 3, sharedB: true).Check(0.5, 1);
            new GemmCase(transA, transB, m, n, k, seed++, 2, batch: 4, typeA: DType.BF16, typeB: DType.F16, typeC: DType.BF16).Check();
            new GemmCase(transA, transB, m, n, k, seed++, 1, batch: 2, typeA: DType.F64, typeB: DType.F64, typeC: DType.F64).Check(1, 1);
        }
    }

    [Fact]
    public void A_packed_operand_larger_than_the_pack_buffer()
    {
        // 4.4 million elements of B: more than the 16 MiB packed at a time, so two passes over columns; rows are few to
        // keep the reference cheap, but more than are computed without packing.
        new GemmCase(false, true, 26, 1100, 4000, 3).Check();
        new GemmCase(false, false, 26, 900, 5000, 4, 1).Check(1, 1);
        new GemmCase(false, true, 26, 320, 2000, 5, 0, batch: 8).Check();
    }

    [Fact]
    public void Bits_do_not_depend_on_the_thread_count()
    {
        (bool, bool, int, int, int)[] shapes =
        [
            (false, false, 301, 257, 700), (false, true, 500, 192, 256), (true, false, 8, 512, 4096), (true, false, 512, 8, 4096),
            (false, true, 3, 1024, 512), (false, true, 700, 16, 640), (false, true, 700, 640, 16), (true, true, 129, 65, 1500),
        ];
        int seed = 100;
        foreach ((bool transA, bool transB, int m, int n, int k) in shapes)
        {
            foreach (DType type in new[] { DType.F32, DType.BF16 })
            {
                var test = new GemmCase(transA, transB, m, n, k, seed++, 2, typeA: type, typeB: type, typeC: type);
                CpuParallel.ThreadCount = 1;
                byte[] expected = test.Check(0.5, 1);
                foreach (int threads in new[] { 2, 3, 16 })
                {
                    CpuParallel.ThreadCount = threads;
                    for (int round = 0; round < 3; round++)
                    {
                        Assert.Equal(expected, test.Check(0.5, 1));
                    }
                }
            }
        }
    }
}

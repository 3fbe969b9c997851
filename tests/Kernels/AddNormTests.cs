using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Both results have the bits of the addition followed by the norm, whose own tests compare them with references.</summary>
[Collection(nameof(CpuParallel))]
public sealed class AddNormTests
{
    private const float Eps = 1e-5f;

    public static TheoryData<DType, int, int> Cases => NormReference.Cases;

    /// <summary>Gaps after the rows of x, of d and of y: a GPU's kernels read packs over some of them and not over others.</summary>
    public static TheoryData<DType, int, int, int> Gaps
    {
        get
        {
            var data = new TheoryData<DType, int, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach ((int x, int d, int y) in new[] { (8, 0, 0), (0, 16, 0), (8, 8, 24), (1, 0, 8), (0, 3, 0), (0, 0, 5) })
                {
                    data.Add(dtype, x, d, y);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Has_the_bits_of_the_sum_and_its_norm(DType dtype, int rows, int columns) => SameBits(dtype, rows, columns, 0, 0, 0);

    [Theory]
    [MemberData(nameof(Gaps))]
    public void Rows_may_have_gaps(DType dtype, int x, int d, int y) => SameBits(dtype, 5, 768, x, d, y);

    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void The_sum_may_take_the_place_of_either_term(DType dtype)
    {
        using Problem t = new(dtype, 7, 64, 0, 0, 0);
        t.Fused(layer: true, t.X, t.D, t.S, t.Y, null, null);
        byte[] sum = t.S.ToBytes();
        byte[] normed = t.Y.ToBytes();
        using Problem first = new(dtype, 7, 64, 0, 0, 0);
        first.Fused(layer: true, first.X, first.D, first.X, first.Y, null, null);
        Assert.Equal(sum, first.X.ToBytes());
        Assert.Equal(normed, first.Y.ToBytes());
        using Problem second = new(dtype, 7, 64, 0, 0, 0);
        second.Fused(layer: true, second.X, second.D, second.D, second.Y, null, null);
        Assert.Equal(sum, second.D.ToBytes());
        Assert.Equal(normed, second.Y.ToBytes());
    }

    [Fact]
    public void Weights_in_f32_serve_bf16_activations()
    {
        using Problem t = new(DType.BF16, 3, 64, 0, 0, 0, DType.F32);
        t.Check(layer: false);
        t.Check(layer: true);
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using Problem t = new(dtype, 2003, 33, 0, 0, 0);
        GuardedTensor s = GuardedTensor.Empty([2003, 33], dtype);
        GuardedTensor y = GuardedTensor.Empty([2003, 33], dtype);
        t.Fused(layer: false, t.X, t.D, s, y, null, null);
        return [s, y];
    });

    [Fact]
    public void A_sum_of_another_shape_is_refused()
    {
        using GuardedTensor x = GuardedTensor.Empty([2, 3], DType.F32);
        using GuardedTensor d = GuardedTensor.Empty([3, 2], DType.F32);
        using GuardedTensor w = GuardedTensor.Empty([3], DType.F32);
        string message = Assert.Throws<ArgumentException>(() => AddNorm.RmsNorm(x, d, w, Eps, x, x, null)).Message;
        Assert.Contains("AddNorm.RmsNorm: d has to be like x, f32[2, 3]; it is f32[3, 2]", message);
    }

    private static void SameBits(DType dtype, int rows, int columns, int xGap, int dGap, int yGap)
    {
        using Problem t = new(dtype, rows, columns, xGap, dGap, yGap);
        t.Check(layer: false);
        t.Check(layer: true);
    }

    private sealed class Problem : IDisposable
    {
        private readonly Shape _shape;
        private readonly int _yGap;
        private readonly GuardedTensor _w;
        private readonly GuardedTensor _b;

        public Problem(DType dtype, int rows, int columns, int xGap, int dGap, int yGap, DType? weights = null)
        {
            var random = new RandomTensors(11);
            _shape = [rows, columns];
            _yGap = yGap;
            X = random.Normal(_shape, dtype, deviation: 2, mean: 0.5, rowGap: xGap);
            D = random.Normal(_shape, dtype, rowGap: dGap);
            _w = random.Normal([columns], weights ?? dtype, mean: 1);
            _b = random.Normal([columns], weights ?? dtype);
            S = GuardedTensor.Empty(_shape, dtype);
            Y = GuardedTensor.Empty(_shape, dtype, yGap);
        }

        public GuardedTensor X { get; }

        public GuardedTensor D { get; }

        public GuardedTensor S { get; }

        public GuardedTensor Y { get; }

        public void Fused(bool layer, Tensor x, Tensor d, Tensor s, Tensor y, Tensor? mean, Tensor? rstd)
        {
            if (layer)
            {
                AddNorm.LayerNorm(x, d, _w, _b, Eps, s, y, mean, rstd);
            }
            else
            {
                AddNorm.RmsNorm(x, d, _w, Eps, s, y, rstd);
            }
        }

        // Both ways, sums, norms and statistics.
        public void Check(bool layer)
        {
            DType dtype = X.Tensor.DType;
            DType statistics = Kernels.Check.Statistics(dtype);
            List<byte[]>[] results = [.. new[] { false, true }.Select(fused =>
            {
                using GuardedTensor s = GuardedTensor.Empty(_shape, dtype);
                using GuardedTensor y = GuardedTensor.Empty(_shape, dtype, _yGap);
                using GuardedTensor mean = GuardedTensor.From(new double[_shape[0]], [_shape[0]], statistics);
                using GuardedTensor rstd = GuardedTensor.Empty([_shape[0]], statistics);
                if (fused)
                {
                    Fused(layer, X, D, s, y, mean, rstd);
                }
                else
                {
                    Elementwise.Add(X, D, s);
                    if (layer)
                    {
                        LayerNorm.Forward(s, _w, _b, Eps, y, mean, rstd);
                    }
                    else
                    {
                        RmsNorm.Forward(s, _w, Eps, y, rstd);
                    }
                }

                GuardedTensor[] tensors = [s, y, mean, rstd];
                Array.ForEach(tensors, static t => t.AssertGuards());
                return tensors.Select(static t => t.ToBytes()).ToList();
            })];
            Assert.Equal(results[0], results[1]);
        }

        public void Dispose()
        {
            foreach (GuardedTensor tensor in new[] { X, D, _w, _b, S, Y })
            {
                tensor.Dispose();
            }
        }
    }
}

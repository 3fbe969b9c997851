using System.Globalization;
using Engine.Tensors;

namespace Engine.Kernels.Tests.MatMul;

/// <summary>
/// One product with its inputs, its reference in double and its error bound: sizes, transposes, row strides beyond the
/// row, storage types, factors. Everything around C, between its rows too, is filled with sentinels.
/// </summary>
internal sealed unsafe class GemmCase
{
    private const int Guard = 37;
    private const double Sentinel = -12345;

    private readonly double[] _a;
    private readonly double[] _b;
    private readonly double[] _c;
    private readonly double[] _product;
    private readonly double[] _magnitude;

    public GemmCase(bool transA, bool transB, int m, int n, int k, int seed, int pad = 0, int batch = 1, DType typeA = DType.F32, DType typeB = DType.F32, DType typeC = DType.F32, bool sharedB = false)
    {
        (TransA, TransB, M, N, K, Batch) = (transA, transB, m, n, k, batch);
        (TypeA, TypeB, TypeC) = (typeA, typeB, typeC);
        Lda = (transA ? m : k) + pad;
        Ldb = (transB ? k : n) + (2 * pad);
        Ldc = n + (3 * pad);
        StrideA = (Lda * (transA ? k : m)) + pad;
        StrideB = sharedB ? 0 : (Ldb * (transB ? n : k)) + pad;
        StrideC = (Ldc * m) + pad;
        var random = new Random(seed);
        _a = Fill(random, (StrideA * batch) + 1, typeA);
        _b = Fill(random, ((sharedB ? Ldb * (transB ? n : k) : StrideB * batch)) + 1, typeB);
        _c = Fill(random, (StrideC * batch) + 1, typeC);
        _product = new double[batch * m * n];
        _magnitude = new double[batch * m * n];
        for (int item = 0; item < batch; item++)
        {
            for (int i = 0; i < m; i++)
            {
                Span<double> product = _product.AsSpan(((item * m) + i) * n, n);
                Span<double> magnitude = _magnitude.AsSpan(((item * m) + i) * n, n);
                for (int p = 0; p < k; p++)
                {
                    double x = _a[(item * StrideA) + (transA ? (p * Lda) + i : (i * Lda) + p)];
                    int at = (item * StrideB) + (transB ? p : p * Ldb);
                    int step = transB ? Ldb : 1;
                    for (int j = 0; j < n; j++, at += step)
                    {
                        double term = x * _b[at];
                        product[j] += term;
                        magnitude[j] += Math.Abs(term);
                    }
                }
            }
        }
    }

    public bool TransA { get; }

    public bool TransB { get; }

    public int M { get; }

    public int N { get; }

    public int K { get; }

    public int Batch { get; }

    public DType TypeA { get; }

    public DType TypeB { get; }

    public DType TypeC { get; }

    private int Lda { get; }

    private int Ldb { get; }

    private int Ldc { get; }

    private int StrideA { get; }

    private int StrideB { get; }

    private int StrideC { get; }

    /// <summary>Runs the product and checks every element of C's buffer; returns the buffer's bytes.</summary>
    public byte[] Check(double alpha = 1, double beta = 0)
    {
        // With beta = 0, C holds NaN before the call: reading it would show.
        double[] before = beta == 0 ? [.. _c.Select(_ => double.NaN)] : _c;
        var c = new double[_c.Length + (2 * Guard)];
        Array.Fill(c, Sentinel);
        for (int item = 0; item < Batch; item++)
        {
            for (int i = 0; i < M; i++)
            {
                Array.Copy(before, (item * StrideC) + (i * Ldc), c, Guard + (item * StrideC) + (i * Ldc), N);
            }
        }

        byte[] bytes = Encode(c, TypeC);
        byte[] a = Encode(_a, TypeA);
        byte[] b = Encode(_b, TypeB);
        fixed (byte* pa = a)
        fixed (byte* pb = b)
        fixed (byte* pc = bytes)
        {
            byte* first = pc + (Guard * TypeC.Size());
            if (TypeC == DType.F64)
            {
                CpuGemm.RunBatched(Batch, TransA, TransB, M, N, K, alpha, (double*)pa, Lda, StrideA, (double*)pb, Ldb, StrideB, beta, (double*)first, Ldc, StrideC);
            }
            else if (TypeA == DType.F32 && TypeB == DType.F32 && TypeC == DType.F32)
            {
                CpuGemm.RunBatched(Batch, TransA, TransB, M, N, K, (float)alpha, (float*)pa, Lda, StrideA, (float*)pb, Ldb, StrideB, (float)beta, (float*)first, Ldc, StrideC);
            }
            else
            {
                CpuGemm.RunMixedBatched(Batch, TransA, TransB, M, N, K, (float)alpha, TypeA, pa, Lda, StrideA, TypeB, pb, Ldb, StrideB, (float)beta, TypeC, first, Ldc, StrideC);
            }
        }

        Compare(Decode(bytes, TypeC), alpha, beta);
        return bytes;
    }

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture, $"{(TransA ? 'T' : 'N')}{(TransB ? 'T' : 'N')} {Batch}x{M}x{N}x{K} {TypeA.Name()}*{TypeB.Name()}->{TypeC.Name()} ldc {Ldc}");

    private void Compare(double[] result, double alpha, double beta)
    {
        // γ(n) = n·u / (1 − n·u), n the longest chain of roundings any path makes (CpuGemm's remarks), u half the spacing
        // of floats at 1; then one rounding to C's storage type, at most u_c relative, plus half its smallest subnormal.
        double u = TypeC == DType.F64 ? Math.ScaleB(1, -53) : Math.ScaleB(1, -24);
        double steps = K + 34 + (K / 128.0);
        double gamma = steps * u / (1 - (steps * u));
        double uc = TypeC switch { DType.BF16 => Math.ScaleB(1, -8), DType.F16 => Math.ScaleB(1, -11), _ => 0 };
        double tiny = TypeC switch { DType.BF16 => Math.ScaleB(1, -134), DType.F16 => Math.ScaleB(1, -25), _ => 0 };
        var inside = new bool[result.Length];
        for (int item = 0; item < Batch; item++)
        {
            for (int i = 0; i < M; i++)
            {
                for (int j = 0; j < N; j++)
                {
                    int at = Guard + (item * StrideC) + (i * Ldc) + j;
                    int flat = (((item * M) + i) * N) + j;
                    double old = beta == 0 ? 0 : beta * _c[at - Guard];
                    double expected = (alpha * _product[flat]) + old;
                    double bound = gamma * ((Math.Abs(alpha) * _magnitude[flat]) + Math.Abs(old));
                    bound += (uc * (Math.Abs(expected) + bound)) + tiny;
                    double error = Math.Abs(result[at] - expected);
                    inside[at] = true;
                    if (!(error <= bound))
                    {
                        Assert.Fail($"{this}: [{item},{i},{j}] is {result[at]}, expected {expected}, error {error} above {bound}");
                    }
                }
            }
        }

        double sentinel = Decode(Encode([Sentinel], TypeC), TypeC)[0];
        for (int at = 0; at < result.Length; at++)
        {
            if (!inside[at] && result[at] != sentinel)
            {
                Assert.Fail($"{this}: wrote outside C at {at - Guard}");
            }
        }
    }

    /// <summary>Values that the storage type holds exactly, so that the reference sees what the kernel sees.</summary>
    private static double[] Fill(Random random, int count, DType type)
    {
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (random.NextDouble() * 2) - 1;
        }

        return Decode(Encode(values, type), type);
    }

    private static byte[] Encode(double[] values, DType type)
    {
        var bytes = new byte[values.Length * type.Size()];
        for (int i = 0; i < values.Length; i++)
        {
            Span<byte> to = bytes.AsSpan(i * type.Size());
            switch (type)
            {
                case DType.F64:
                    BitConverter.TryWriteBytes(to, values[i]);
                    break;
                case DType.F32:
                    BitConverter.TryWriteBytes(to, (float)values[i]);
                    break;
                case DType.BF16:
                    BitConverter.TryWriteBytes(to, ((BFloat16)(float)values[i]).Bits);
                    break;
                default:
                    BitConverter.TryWriteBytes(to, (Half)(float)values[i]);
                    break;
            }
        }

        return bytes;
    }

    private static double[] Decode(byte[] bytes, DType type)
    {
        var values = new double[bytes.Length / type.Size()];
        for (int i = 0; i < values.Length; i++)
        {
            ReadOnlySpan<byte> from = bytes.AsSpan(i * type.Size());
            values[i] = type switch
            {
                DType.F64 => BitConverter.ToDouble(from),
                DType.F32 => BitConverter.ToSingle(from),
                DType.BF16 => (float)BFloat16.FromBits(BitConverter.ToUInt16(from)),
                _ => (double)BitConverter.ToHalf(from),
            };
        }

        return values;
    }
}

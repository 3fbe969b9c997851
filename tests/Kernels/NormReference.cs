using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Tensors of one backward of LayerNorm or RMSNorm, and the gradients written out in double.</summary>
internal sealed class NormReference : IDisposable
{
    private readonly int _rows;
    private readonly int _columns;
    private readonly bool _centered;
    private readonly double[] _dwBefore;
    private readonly double[] _dbBefore;
    private readonly List<GuardedTensor> _taken = [];

    public NormReference(DType dtype, int rows, int columns, double eps, bool centered)
    {
        var random = new RandomTensors(7);
        (_rows, _columns, _centered) = (rows, columns, centered);
        DType statistics = dtype == DType.F64 ? DType.F64 : DType.F32;
        X = random.Normal([rows, columns], dtype, deviation: 2, mean: 0.5);
        Dy = random.Normal([rows, columns], dtype);
        W = random.Normal([columns], dtype, mean: 1);
        Dw = random.Normal([columns], dtype);
        Db = random.Normal([columns], dtype);
        Dx = GuardedTensor.Empty([rows, columns], dtype);
        (double[] mean, double[] rstd) = Statistics(X.ToDoubles(), rows, columns, eps, centered);
        Mean = GuardedTensor.From(mean, [rows], statistics);
        Rstd = GuardedTensor.From(rstd, [rows], statistics);
        _dwBefore = Dw.ToDoubles();
        _dbBefore = Db.ToDoubles();
    }

    /// <summary>
    /// Dtype, rows, columns: no rows, one row, one column, unaligned rests; on a GPU with aligned rows several a warp, one a warp
    /// with and without packs to spare, several warps a row, rows too long for registers.
    /// </summary>
    public static TheoryData<DType, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                (int, int)[] shapes =
                [
                    (0, 8), (1, 1), (5, 1), (1, 77), (7, 64), (70, 333), (3, 4096), (2, 20000),
                    (300, 8), (130, 16), (9, 128), (6, 768), (5, 1024), (3, 1600), (2, 5120),
                ];
                foreach ((int rows, int columns) in shapes)
                {
                    data.Add(dtype, rows, columns);
                }
            }

            return data;
        }
    }

    public GuardedTensor X { get; }

    public GuardedTensor Dy { get; }

    public GuardedTensor W { get; }

    public GuardedTensor Mean { get; }

    public GuardedTensor Rstd { get; }

    public GuardedTensor Dx { get; }

    public GuardedTensor Dw { get; }

    public GuardedTensor Db { get; }

    public static (double[] Mean, double[] Rstd) Statistics(double[] x, int rows, int columns, double eps, bool centered)
    {
        var mean = new double[rows];
        var rstd = new double[rows];
        for (int r = 0; r < rows; r++)
        {
            double[] row = x[(r * columns)..((r + 1) * columns)];
            mean[r] = centered ? row.Average() : 0;
            rstd[r] = 1 / Math.Sqrt(row.Average(v => (v - mean[r]) * (v - mean[r])) + eps);
        }

        return (mean, rstd);
    }

    /// <summary>Leaves a tensor to the caller.</summary>
    public GuardedTensor Take(GuardedTensor tensor)
    {
        _taken.Add(tensor);
        return tensor;
    }

    public void Check(OpCase op, ErrorBound weightBound, bool withBias)
    {
        double[] x = X.ToDoubles();
        double[] dy = Dy.ToDoubles();
        double[] w = W.ToDoubles();
        double[] mean = Mean.ToDoubles();
        double[] rstd = Rstd.ToDoubles();
        var dx = new double[x.Length];
        var dxSize = new double[x.Length];
        double[] dw = [.. _dwBefore];
        double[] db = [.. _dbBefore];
        double[] dwSize = Reference.Map(dw, Math.Abs);
        double[] dbSize = Reference.Map(db, Math.Abs);
        for (int r = 0; r < _rows; r++)
        {
            double sum = 0, sumX = 0, size = 0, sizeX = 0;
            for (int pass = 0; pass < 2; pass++)
            {
                for (int c = 0; c < _columns; c++)
                {
                    int i = (r * _columns) + c;
                    double normalized = (x[i] - mean[r]) * rstd[r];
                    double g = dy[i] * w[c];
                    if (pass == 0)
                    {
                        sum += _centered ? g / _columns : 0;
                        size += _centered ? Math.Abs(g) / _columns : 0;
                        sumX += g * normalized / _columns;
                        sizeX += Math.Abs(g * normalized) / _columns;
                        dw[c] += dy[i] * normalized;
                        dwSize[c] += Math.Abs(dy[i] * normalized);
                        db[c] += dy[i];
                        dbSize[c] += Math.Abs(dy[i]);
                    }
                    else
                    {
                        dx[i] = rstd[r] * (g - sum - (normalized * sumX));
                        dxSize[i] = rstd[r] * (Math.Abs(g) + size + (Math.Abs(normalized) * sizeX));
                    }
                }
            }
        }

        KernelAssert.Close(op, dx, Dx, dxSize);
        KernelAssert.Close(weightBound, op.Name + " dw", dw, Dw, dwSize);
        if (withBias)
        {
            KernelAssert.Close(weightBound, op.Name + " db", db, Db, dbSize);
        }
    }

    public void Dispose()
    {
        foreach (GuardedTensor tensor in new[] { X, Dy, W, Mean, Rstd, Dx, Dw, Db }.Except(_taken))
        {
            tensor.Dispose();
        }
    }
}

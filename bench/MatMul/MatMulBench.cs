using System.Diagnostics;
using System.Globalization;
using System.Text;
using Engine.Kernels;
using Engine.Kernels.Cpu;

namespace Engine.Bench.MatMul;

/// <summary>
/// <c>engine-bench matmul</c>: fp32 products on one thread and on all, ours and OpenBLAS's in turn, medians. A sample is
/// repeated until it lasts some milliseconds. Inputs are random and stay in cache as they do between the layers of a step.
/// </summary>
internal static unsafe class MatMulBench
{
    private const string Help = """
        Usage: engine-bench matmul [--json FILE] [--markdown FILE] [--filter TEXT] [--rounds N]
          --json FILE      write the results as JSON
          --markdown FILE  write the table as Markdown
          --filter TEXT    only shapes whose name or description contains TEXT
          --rounds N       samples per median (default 7)
        """;

    private const double SampleSeconds = 0.004;

    public static int Run(string[] args)
    {
        string? json = null;
        string? markdown = null;
        string filter = "";
        int rounds = 7;
        for (int i = 0; i < args.Length; i += 2)
        {
            string? value = i + 1 < args.Length ? args[i + 1] : null;
            bool known = args[i] is "--json" or "--markdown" or "--filter" or "--rounds";
            if (!known || value is null || (args[i] == "--rounds" && !int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out rounds)) || rounds < 1)
            {
                bool help = args[i] is "--help" or "-h";
                (help ? Console.Out : Console.Error).WriteLine(help ? Help : $"engine-bench matmul: cannot read '{args[i]} {value}'\n{Help}");
                return help ? 0 : 2;
            }

            switch (args[i])
            {
                case "--json":
                    json = value;
                    break;
                case "--markdown":
                    markdown = value;
                    break;
                case "--filter":
                    filter = value;
                    break;
            }
        }

        var report = new MatMulReport(BenchHost.Current(), OpenBlas.TryLoad());
        var others = new OtherLoad();
        Console.WriteLine(report.Header());
        Console.WriteLine(report.TableHead());
        foreach (MatMulShape shape in MatMulShape.All)
        {
            if ((shape.Name + " " + shape.What).Contains(filter, StringComparison.OrdinalIgnoreCase))
            {
                MatMulResult result = Measure(shape, report.Blas, rounds);
                report.Results.Add(result);
                Console.WriteLine(MatMulReport.Row(result));
            }
        }

        report.OtherCores = others.Cores();
        Console.WriteLine();
        Console.WriteLine(report.Disturbance());
        if (json is not null)
        {
            File.WriteAllBytes(json, report.ToJson());
        }

        if (markdown is not null)
        {
            File.WriteAllText(markdown, report.ToMarkdown(), new UTF8Encoding(false));
        }

        return 0;
    }

    private static MatMulResult Measure(MatMulShape s, OpenBlas? blas, int rounds)
    {
        float[] a = Fill((long)s.M * s.K, 1);
        float[] b = Fill((long)s.N * s.K, 2);
        float[] c = GC.AllocateUninitializedArray<float>(s.M * s.N, pinned: true);
        float* pa = Pointer(a);
        float* pb = Pointer(b);
        float* pc = Pointer(c);
        void Ours() => CpuGemm.Run(s.TransA, s.TransB, s.M, s.N, s.K, 1f, pa, s.Lda, pb, s.Ldb, 0f, pc, s.N);
        void Theirs() => blas!.Multiply(s, pa, pb, pc);

        int all = Environment.ProcessorCount;
        (double ours1, double theirs1) = Medians(Ours, blas is null ? null : Theirs, 1, blas, rounds);
        (double oursAll, double theirsAll) = all == 1 ? (ours1, theirs1) : Medians(Ours, blas is null ? null : Theirs, all, blas, rounds);
        GC.KeepAlive((a, b, c));
        return new MatMulResult(s, ours1, oursAll, theirs1, theirsAll);
    }

    /// <summary>Median seconds of a call of each, sampled in turn.</summary>
    private static (double Ours, double Theirs) Medians(Action ours, Action? theirs, int threads, OpenBlas? blas, int rounds)
    {
        CpuParallel.ThreadCount = threads;
        blas?.SetThreads(threads);
        int oursCalls = Calls(ours);
        int theirsCalls = theirs is null ? 0 : Calls(theirs);
        var oursSamples = new double[rounds];
        var theirsSamples = new double[rounds];
        for (int round = 0; round < rounds; round++)
        {
            if (threads > 1)
            {
                Settle();
            }

            ours();
            oursSamples[round] = BenchHost.Time(ours, oursCalls);
            if (theirs is not null)
            {
                theirs();
                theirsSamples[round] = BenchHost.Time(theirs, theirsCalls);
            }
        }

        return (BenchHost.Median(oursSamples), theirs is null ? double.NaN : BenchHost.Median(theirsSamples));
    }

    /// <summary>Warms up (long enough for the compiler's last tier) and returns how many calls fill a sample.</summary>
    private static int Calls(Action action)
    {
        double once = BenchHost.Time(action, 1);
        int warm = (int)Math.Clamp(0.15 / once, 1, 2000);
        once = BenchHost.Time(action, warm);
        return (int)Math.Clamp(SampleSeconds / once, 1, 100_000);
    }

    /// <summary>
    /// Waits until this process is idle: OpenBLAS's threads keep the cores busy for a tenth of a second after a call, and
    /// ours must not be timed against that.
    /// </summary>
    private static void Settle()
    {
        using var process = Process.GetCurrentProcess();
        for (int i = 0; i < 50; i++)
        {
            process.Refresh();
            TimeSpan before = process.TotalProcessorTime;
            Thread.Sleep(10);
            process.Refresh();
            if ((process.TotalProcessorTime - before).TotalMilliseconds < 2)
            {
                return;
            }
        }
    }

    private static float[] Fill(long count, int seed)
    {
        var random = new Random(seed);
        float[] values = GC.AllocateUninitializedArray<float>(checked((int)count), pinned: true);
        foreach (ref float value in values.AsSpan())
        {
            value = (random.NextSingle() * 2) - 1;
        }

        return values;
    }

    private static float* Pointer(float[] pinned) =>
        (float*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref System.Runtime.InteropServices.MemoryMarshal.GetArrayDataReference(pinned));
}

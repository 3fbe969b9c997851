using System.CommandLine;
using System.Text.Json;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Bench;

/// <summary><c>engine bench op</c>: one op alone.</summary>
internal static class BenchOpCommand
{
    // Buffers change from call to call, so that none finds its inputs in the L2 cache, as in a model.
    private const int CacheMultiple = 3;
    private const int MostSets = 256;
    private const int WarmUps = 5;
    private const long HostCacheBytes = 32L << 20;

    public static Command Create(GlobalOptions global)
    {
        var command = new Command("op", $"""
            Times one op alone, with random values and buffers that change from call to call over three times the L2 cache.
            Rates count the bytes and operations that any implementation must do; the shares are of a copy of 1 GiB and of a
            bf16 matrix product of 8192 × 8192 × 8192, measured first.

            Ops: {string.Join(", ", OpBench.All.Select(b => b.Name))}.

            Examples:
              engine bench op --op rmsnorm --shape 8192x4096 --dtype bf16
              engine bench op --op all --json ops.json
              ncu --profile-from-start off --set full engine bench op --op attention --ncu
            """);
        var op = OptionOf.Text("--op", "NAME", "The op, or all.", required: true);
        var shape = OptionOf.Text("--shape", "AxBx…", "Its extents; a wrong one is told what they are.");
        var dtype = OptionOf.DTypeOption("Element type (bf16 on a GPU, f32 on the CPU).");
        var iterations = OptionOf.Integer("--iterations", "Timed calls.", 50, 1, 100000);
        var ncu = OptionOf.Flag("--ncu", "After the warm-up make exactly one call, between cuProfilerStart and cuProfilerStop.");
        var json = OptionOf.Text("--json", "FILE", "Write the figures as JSON.");
        foreach (Option option in (Option[])[op, shape, dtype, iterations, ncu, json])
        {
            command.Add(option);
        }

        global.Handle(command, context =>
        {
            bool all = context.Get(op) == "all";
            if (all && (context.IsGiven(shape) || context.Get(ncu)))
            {
                throw new UsageException($"{(context.Get(ncu) ? "--ncu" : "--shape")} goes with one op, not with all");
            }

            Device device = context.Device;
            DType type = context.Get(dtype) ?? (device.PrefersNarrowTypes ? DType.BF16 : DType.F32);
            OpBench[] benches = all ? [.. OpBench.All] : [OpBench.Get(context.Get(op)!)];
            int[][] extents = [.. benches.Select(b => b.Parse(context.Get(shape)))];
            if (context.Get(ncu))
            {
                RunOnce(context, device as CudaDevice ?? throw new UsageException("--ncu needs a GPU"), benches[0], extents[0], type);
                return ExitCode.Success;
            }

            DevicePeaks peaks = DevicePeaks.Measure(device);
            List<OpResult> results = [.. benches.Select((b, i) => Measure(context, device, b, extents[i], type, context.Get(iterations), all))];
            Print(context, results, peaks);
            if (context.Get(json) is { } path)
            {
                AtomicFile.Write(path, stream => Write(stream, device, type, peaks, results));
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static OpResult Measure(
        CommandContext context, Device device, OpBench bench, int[] extents, DType dtype, int iterations, bool all)
    {
        context.Console.Cancellation.ThrowIfCancellationRequested();
        OpCase work = bench.Case(extents, dtype);
        using var tensors = new BenchTensors(device);
        try
        {
            Action[] calls = Sets(tensors, bench, extents, dtype, CacheMultiple * CacheBytes(device));
            WarmUp(device, calls);
            return new OpResult(bench.Name, work, DeviceTimer.Microseconds(device, iterations, i => calls[i % calls.Length]()), null);
        }
        catch (Exception error) when (all && error is NotSupportedException or DeviceOutOfMemoryException)
        {
            return new OpResult(bench.Name, work, [], error.Message);
        }
        catch (NotSupportedException error)
        {
            throw new EngineDataException(error.Message, error);
        }
        catch (ArgumentException error)
        {
            throw new UsageException($"--shape {string.Join('x', extents)} does not suit {bench.Name} ({bench.Extents}): {error.Message}", error);
        }
        finally
        {
            device.Synchronize();
        }
    }

    private static void RunOnce(CommandContext context, CudaDevice device, OpBench bench, int[] extents, DType dtype)
    {
        using var tensors = new BenchTensors(device);
        Action[] calls = Sets(tensors, bench, extents, dtype, CacheMultiple * CacheBytes(device));
        WarmUp(device, calls);
        device.Synchronize();
        device.Context.StartProfiler();
        calls[0]();
        device.Synchronize();
        device.Context.StopProfiler();
        context.Console.Output.WriteLine($"one call of {bench.Case(extents, dtype).Name} was made between cuProfilerStart and cuProfilerStop");
    }

    private static long CacheBytes(Device device) => device is CudaDevice cuda ? cuda.Context.L2Bytes : HostCacheBytes;

    private static Action[] Sets(BenchTensors tensors, OpBench bench, int[] extents, DType dtype, long bytes)
    {
        var calls = new List<Action>();
        do
        {
            calls.Add(bench.Make(tensors, extents, dtype));
        }
        while (tensors.Bytes < bytes && calls.Count < MostSets);
        return [.. calls];
    }

    // Every set once at least: images load, plans are made, pages are touched.
    private static void WarmUp(Device device, Action[] calls)
    {
        for (int i = 0; i < Math.Max(WarmUps, calls.Length); i++)
        {
            calls[i % calls.Length]();
        }

        device.Synchronize();
    }

    private static void Print(CommandContext context, List<OpResult> results, DevicePeaks peaks)
    {
        context.Console.WriteTable(
            ["op", "case", ">median µs", ">min µs", ">GB/s", ">TFLOP/s", ">% copy", ">% matmul", ""],
            results.Select(r => new[]
            {
                r.Name, r.Work.Name, Results.Figure(r.Median), Results.Figure(r.Times.DefaultIfEmpty(double.NaN).Min()),
                Results.Figure(r.BytesPerSecond / 1e9), Results.Figure(r.FlopsPerSecond / 1e12),
                Results.Percent(r.BytesPerSecond / peaks.CopyBytesPerSecond), Results.Percent(r.FlopsPerSecond / peaks.MatMulFlopsPerSecond),
                r.Failure ?? "",
            }));
        context.Note($"measured on {context.Device.Name}: {peaks}");
    }

    private static void Write(Stream stream, Device device, DType dtype, DevicePeaks peaks, List<OpResult> results)
    {
        using var json = new Utf8JsonWriter(stream, Results.Indented);
        json.WriteStartObject();
        BenchMachine.Write(json, device);
        json.WriteString("dtype", dtype.Name());
        json.WriteFinite("copy_bytes_per_second", peaks.CopyBytesPerSecond);
        json.WriteFinite("matmul_flops_per_second", peaks.MatMulFlopsPerSecond);
        json.WriteStartArray("results");
        foreach (OpResult result in results)
        {
            json.WriteStartObject();
            json.WriteString("op", result.Name);
            json.WriteString("case", result.Work.Name);
            json.WriteNumber("bytes", result.Work.Bytes);
            json.WriteNumber("flops", result.Work.Flops);
            json.WriteFinite("microseconds_median", result.Median);
            json.WriteFinite("microseconds_min", result.Times.DefaultIfEmpty(double.NaN).Min());
            json.WriteFinite("bytes_per_second", result.BytesPerSecond);
            json.WriteFinite("flops_per_second", result.FlopsPerSecond);
            json.WriteFinite("share_of_copy", result.BytesPerSecond / peaks.CopyBytesPerSecond);
            json.WriteFinite("share_of_matmul", result.FlopsPerSecond / peaks.MatMulFlopsPerSecond);
            if (result.Failure is not null)
            {
                json.WriteString("failure", result.Failure);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>The times of one op, or why there are none.</summary>
    private sealed record OpResult(string Name, OpCase Work, double[] Times, string? Failure)
    {
        public double Median { get; } = DeviceTimer.Median(Times);

        public double BytesPerSecond => 1e6 * Work.Bytes / Median;

        public double FlopsPerSecond => 1e6 * Work.Flops / Median;
    }
}

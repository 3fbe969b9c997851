using System.CommandLine;
using System.CommandLine.Invocation;
using System.Globalization;
using System.Text.Json;
using Engine.Cli.Bench;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Profiling;

/// <summary><c>engine profile</c>: runs another command and says where the GPU's time went.</summary>
internal static class ProfileCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("profile", """
            Runs another command on a GPU, times each of its kernels with CUDA events, and prints a table by kernel after the
            command's own output: launches, time, share of all kernels' time, rates of the bytes and operations that a kernel
            must do, and their shares of a copy of 1 GiB and of a bf16 matrix product, measured first. A second table sums the
            kernels by the part of the model they serve; the low-rank path has the adapter's own kernels, not what it adds within
            frozen products, SwiGLU's passes and the optimizer. Work is launched kernel by kernel, not replayed from
            graphs; an event pair adds about two microseconds between kernels.

            Example:
              engine profile bench train --model Llama-3.2-1B --steps 3 --trace trace.json
            """);
        var files = new ProfileFiles(
            OptionOf.Text(
                "--trace", "FILE.json", "Write every launch and the ranges around it in the form that Perfetto and chrome://tracing show."),
            OptionOf.Text("--profile-json", "FILE", "Write the table as JSON."));
        foreach (Command inner in (Command[])
            [
                TrainCommand.Create(global), EvalCommand.Create(global), GenerateCommand.Create(global), LogitsCommand.Create(global),
                BenchCommand.Create(global),
            ])
        {
            command.Add(Profiled(inner, global, files));
        }

        return command;
    }

    // The same command whose action runs under the profiler; of a command with commands below, those.
    private static Command Profiled(Command command, GlobalOptions global, ProfileFiles files)
    {
        foreach (Command below in command.Subcommands)
        {
            Profiled(below, global, files);
        }

        if (command.Action is SynchronousCommandLineAction action)
        {
            command.Add(files.Trace);
            command.Add(files.Table);
            command.SetAction(parsed => Run(global.Context(parsed), files, () => action.Invoke(parsed)));
        }

        return command;
    }

    private static int Run(CommandContext context, ProfileFiles files, Func<int> command)
    {
        if (context.Device is not CudaDevice device)
        {
            throw new EngineDataException($"a profile needs a GPU: {CudaContext.WhyUnavailable() ?? $"--device is {context.Device.Name}"}");
        }

        DevicePeaks peaks = DevicePeaks.Measure(device);
        IReadOnlyList<KernelSample> samples;
        int code;
        using (var profiler = new CudaProfiler(device))
        {
            code = command();
            samples = profiler.Collect();
        }

        IReadOnlyList<KernelTotal> totals = KernelTotal.Of(samples);
        Print(context, totals, peaks);
        if (context.Get(files.Trace) is { } trace)
        {
            AtomicFile.Write(trace, stream => TraceFile.Write(stream, $"{device.Name}, {device.Context.DeviceName}", samples));
            context.Note($"{Results.Count(samples.Count)} launches written to {trace}: open it at https://ui.perfetto.dev or chrome://tracing");
        }

        if (context.Get(files.Table) is { } table)
        {
            AtomicFile.Write(table, stream => Write(stream, device, totals, peaks));
        }

        return code;
    }

    private static void Print(CommandContext context, IReadOnlyList<KernelTotal> totals, DevicePeaks peaks)
    {
        context.Console.WriteTable(
            ["kernel", ">count", ">total µs", ">% time", ">mean µs", ">GB/s", ">TFLOP/s", ">% copy", ">% matmul"],
            totals.Select(t => t.Row(peaks)));
        context.Console.WriteTable(
            ["part of the model", ">total µs", ">% time"],
            KernelGroup.Of(totals).Select(static g => new[] { g.Name, Results.Figure(g.Microseconds), Results.Percent(g.Share) }));
        context.Console.Output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{totals.Sum(t => t.Count):N0} launches of {totals.Count} kernels, {totals.Sum(t => t.Microseconds) / 1000:0.00} ms; measured on {context.Device.Name}: " +
            $"{peaks}"));
    }

    private static void Write(Stream stream, CudaDevice device, IReadOnlyList<KernelTotal> totals, DevicePeaks peaks)
    {
        using var json = new Utf8JsonWriter(stream, Results.Indented);
        json.WriteStartObject();
        BenchMachine.Write(json, device);
        json.WriteFinite("copy_bytes_per_second", peaks.CopyBytesPerSecond);
        json.WriteFinite("matmul_flops_per_second", peaks.MatMulFlopsPerSecond);
        json.WriteStartArray("kernels");
        foreach (KernelTotal total in totals)
        {
            total.Write(json, peaks);
        }

        json.WriteEndArray();
        json.WriteStartArray("parts");
        foreach (KernelGroup group in KernelGroup.Of(totals))
        {
            json.WriteStartObject();
            json.WriteString("part", group.Name);
            json.WriteNumber("microseconds", group.Microseconds);
            json.WriteNumber("share", group.Share);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>The options that a profiled command has beside its own.</summary>
    private sealed record ProfileFiles(Option<string> Trace, Option<string> Table);
}

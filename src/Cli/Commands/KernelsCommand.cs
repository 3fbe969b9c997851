using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Engine.Kernels.Cuda;
using Engine.Tensors.Cuda;
using Engine.Tensors.Cuda.Interop;

namespace Engine.Cli;

/// <summary><c>engine kernels</c>: every kernel in the images and what it takes of a multiprocessor.</summary>
internal static class KernelsCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("kernels", """
            Lists the CUDA kernels: on a GPU with registers, static shared memory, local memory (spilled registers; 0 in a
            kernel that is as it should be), largest block, occupancy with that block and no dynamic shared memory, and the
            architecture of the code that was loaded; without a GPU with what the images say.

            Example:
              engine kernels --op rmsnorm
            """);
        var op = OptionOf.Text("--op", "NAME", "The kernels of this op only.");
        var json = OptionOf.Flag("--json", "Print everything as JSON.");
        command.Add(op);
        command.Add(json);
        global.Handle(command, context =>
        {
            string[] ops = Ops(context.Get(op));
            string? unavailable = context.Device is CudaDevice ? null : CudaContext.WhyUnavailable() ?? "--device is not a GPU";
            var device = context.Device as CudaDevice;
            var rows = ops.SelectMany(KernelEntry.Of).Where(e => device is null || KernelUse.IsLoaded(e, device))
                .Select(e => (Entry: e, Use: KernelUse.Of(e, device))).ToList();
            if (context.Get(json))
            {
                WriteJson(context, ops, rows, unavailable);
            }
            else if (device is not null)
            {
                WriteUse(context, device, rows);
            }
            else
            {
                WriteImages(context, rows);
                context.Note($"registers, shared memory and occupancy need a GPU: {unavailable}");
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static string[] Ops(string? wanted)
    {
        string[] all = [.. KernelImages.Ops];
        return wanted is null ? all
            : all.Contains(wanted) ? [wanted]
            : throw new UsageException($"--op is \"{wanted}\"; there are kernels of {string.Join(", ", all)}");
    }

    private static void WriteUse(CommandContext context, CudaDevice device, List<(KernelEntry Entry, KernelUse? Use)> rows)
    {
        context.Console.WriteTable(
            ["op", "kernel", ">registers", ">shared", ">local", ">threads", ">blocks/SM", ">occupancy", "image", ">code"],
            rows.Select(r => new[]
            {
                r.Entry.Op, r.Entry.Name, $"{r.Use!.Registers}", $"{r.Use.StaticSharedBytes}", $"{r.Use.LocalBytes}", $"{r.Use.MaxThreads}",
                $"{r.Use.Blocks}", r.Use.Occupancy.ToString("P0", CultureInfo.InvariantCulture), r.Use.Image, $"sm_{r.Use.Architecture}",
            }));
        int spilling = rows.Count(r => r.Use!.LocalBytes > 0);
        context.Console.Output.WriteLine(
            $"{rows.Count} kernels on {device.Context.DeviceName}, {(spilling == 0 ? "none" : $"{spilling}")} with local memory");
    }

    private static void WriteImages(CommandContext context, List<(KernelEntry Entry, KernelUse? Use)> rows)
    {
        ILookup<string, string> images = Images();
        context.Console.WriteTable(
            ["op", "kernel", ">threads", "PTX", "images"],
            rows.Select(r => new[]
            {
                r.Entry.Op, r.Entry.Name, r.Entry.LaunchBound == 0 ? "" : $"{r.Entry.LaunchBound}",
                r.Entry.IsNative ? $"{r.Entry.PtxTarget} only" : $"{r.Entry.PtxVersion} for {r.Entry.PtxTarget}", string.Join(" ", images[r.Entry.Op]),
            }));
        context.Console.Output.WriteLine($"{rows.Count} kernels of {rows.Select(r => r.Entry.Op).Distinct().Count()} ops");
    }

    // For each op the forms of its code, such as ptx and sm_90.
    private static ILookup<string, string> Images() => KernelImages.Names.Select(n => n.Split('.')).ToLookup(n => n[0], n => n[1]);

    private static void WriteJson(
        CommandContext context, string[] ops, List<(KernelEntry Entry, KernelUse? Use)> rows, string? unavailable) =>
        context.Console.Output.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("gpu", (context.Device as CudaDevice)?.Context.DeviceName);
            json.WriteString("why_no_gpu", unavailable);
            json.WriteStartArray("kernels");
            foreach ((KernelEntry entry, KernelUse? use) in rows)
            {
                json.WriteStartObject();
                json.WriteString("op", entry.Op);
                json.WriteString("name", entry.Name);
                json.WriteNumber("launch_bound", entry.LaunchBound);
                json.WriteString("ptx_version", entry.PtxVersion);
                json.WriteString("ptx_target", entry.PtxTarget);
                use?.Write(json);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteStartArray("images");
            foreach (KernelImageInfo image in KernelManifest.Read().Where(i => ops.Contains(i.Image.Split('.')[0])))
            {
                json.WriteStartObject();
                json.WriteString("image", image.Image);
                json.WriteString("target", image.Target);
                json.WriteString("compiler", image.Compiler);
                json.WriteString("source_sha256", image.SourceHash);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        });

    /// <summary>What a loaded kernel takes of the device.</summary>
    /// <param name="Image">The image it was loaded from.</param>
    /// <param name="Registers">Of a thread.</param>
    /// <param name="StaticSharedBytes">Of a block.</param>
    /// <param name="LocalBytes">Of a thread: spilled registers and stack.</param>
    /// <param name="MaxThreads">Largest block.</param>
    /// <param name="Blocks">Largest blocks that a multiprocessor holds at once.</param>
    /// <param name="Occupancy">Their threads over what the multiprocessor can hold.</param>
    /// <param name="Architecture">Of the code, such as 90.</param>
    private sealed record KernelUse(
        string Image, int Registers, int StaticSharedBytes, int LocalBytes, int MaxThreads, int Blocks, double Occupancy, int Architecture)
    {
        // Kernels of one architecture alone are in its image only.
        public static bool IsLoaded(KernelEntry entry, CudaDevice device) =>
            !entry.IsNative || KernelImages.Load(device, entry.Op).Name.Contains($".{entry.PtxTarget}.", StringComparison.Ordinal);

        public static KernelUse? Of(KernelEntry entry, CudaDevice? device)
        {
            if (device is null)
            {
                return null;
            }

            CudaModule module = KernelImages.Load(device, entry.Op);
            CudaKernel kernel = module.Kernel(entry.Name);
            int threads = kernel.MaxThreads;
            int blocks = kernel.BlocksPerMultiprocessor(threads);
            double most = device.Context.Attribute(CUdeviceAttribute.MaxThreadsPerMultiprocessor);
            return new KernelUse(
                module.Name, kernel.Registers, kernel.StaticSharedBytes, kernel.LocalBytes, threads, blocks, blocks * threads / most, kernel.Architecture);
        }

        public void Write(Utf8JsonWriter json)
        {
            json.WriteString("image", Image);
            json.WriteNumber("registers", Registers);
            json.WriteNumber("static_shared_bytes", StaticSharedBytes);
            json.WriteNumber("local_bytes", LocalBytes);
            json.WriteNumber("max_threads", MaxThreads);
            json.WriteNumber("blocks_per_multiprocessor", Blocks);
            json.WriteNumber("occupancy", Math.Round(Occupancy, 4));
            json.WriteNumber("architecture", Architecture);
        }
    }
}

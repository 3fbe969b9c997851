using System.CommandLine;
using System.Runtime.InteropServices;
using Engine.Kernels.Cpu;

namespace Engine.Cli;

/// <summary><c>engine info</c>: what this program is and what it finds on the machine.</summary>
internal static class InfoCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("info", """
            Shows the version, the machine, the devices (GPUs, or why CUDA is not available), and the libraries that were
            looked for: found, or missing and how to get them.

            Example:
              engine info --json
            """);
        var json = OptionOf.Flag("--json", "Print everything as JSON.");
        command.Add(json);
        global.Handle(command, context =>
        {
            MachineInfo machine = MachineInfo.Read();
            LibraryInfo[] libraries = LibraryInfo.LookFor();
            CudaInfo cuda = CudaInfo.Read();
            if (context.Get(json))
            {
                WriteJson(context, machine, libraries, cuda);
                return ExitCode.Success;
            }

            context.Console.WritePairs(
            [
                ("engine", EngineVersion.Full),
                ("runtime", RuntimeInformation.FrameworkDescription),
                ("system", $"{machine.System} ({RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant()})"),
                ("processor", machine.Processor),
                ("cores", $"{machine.Cores} ({machine.Simd})"),
                ("threads", $"{CpuParallel.ThreadCount} (ENGINE_THREADS or --threads)"),
                ("memory", $"{Results.Bytes(machine.MemoryBytes)} available to this process"),
                ("devices", string.Join(", ", Devices(cuda))),
                .. cuda.Pairs(),
            ]);
            context.Console.WriteTable(
                ["library", "found", "for", "how to get it"],
                libraries.Select(l => new[] { l.Name, l.Found ? "yes" : "no", l.Purpose, l.Found ? "" : l.Remedy }));
            return ExitCode.Success;
        });
        return command;
    }

    // What --device takes on this machine.
    private static IEnumerable<string> Devices(CudaInfo cuda) => ["cpu", .. cuda.Gpus.Where(g => g.IsSupported).Select(g => $"cuda:{g.Ordinal}")];

    private static void WriteJson(CommandContext context, MachineInfo machine, LibraryInfo[] libraries, CudaInfo cuda) =>
        context.Console.Output.WriteJson(writer =>
        {
            writer.WriteStartObject();
            writer.WriteString("version", EngineVersion.Number);
            writer.WriteString("commit", EngineVersion.Commit);
            writer.WriteString("runtime", RuntimeInformation.FrameworkDescription);
            writer.WriteString("system", machine.System);
            writer.WriteString("architecture", RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant());
            writer.WriteString("processor", machine.Processor);
            writer.WriteNumber("cores", machine.Cores);
            writer.WriteString("simd", machine.Simd);
            writer.WriteNumber("threads", CpuParallel.ThreadCount);
            writer.WriteNumber("memory_bytes", machine.MemoryBytes);
            writer.WriteStartArray("devices");
            foreach (string device in Devices(cuda))
            {
                writer.WriteStringValue(device);
            }

            writer.WriteEndArray();
            writer.WritePropertyName("cuda");
            cuda.Write(writer);
            writer.WriteStartArray("libraries");
            foreach (LibraryInfo library in libraries)
            {
                writer.WriteStartObject();
                writer.WriteString("name", library.Name);
                writer.WriteBoolean("found", library.Found);
                writer.WriteString("purpose", library.Purpose);
                writer.WriteString("remedy", library.Remedy);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        });
}

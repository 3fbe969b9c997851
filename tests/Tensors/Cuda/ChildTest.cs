using System.Diagnostics;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>Runs an explicit test of this program in a process of its own, for what a process can do once only.</summary>
internal static class ChildTest
{
    /// <summary>The exit code (0 when the test ran and passed) and what was printed.</summary>
    public static (int ExitCode, string Output) Run(Type type, string method, params (string Name, string Value)[] environment)
    {
        string assembly = type.Assembly.Location;
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet")
        {
            start.ArgumentList.Add(assembly);
        }

        foreach (string argument in new[] { "-method", $"{type.FullName}.{method}", "-explicit", "only", "-noColor" })
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd() + errors.Result;
        process.WaitForExit();
        bool ran = output.Contains("Total: 1, Errors: 0, Failed: 0, Skipped: 0, Not Run: 0", StringComparison.Ordinal);
        return (process.ExitCode != 0 || ran ? process.ExitCode : -1, output);
    }
}

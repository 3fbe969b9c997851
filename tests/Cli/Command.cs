using System.Diagnostics;

namespace Engine.Cli.Tests;

/// <summary>What a command did.</summary>
internal sealed record CommandResult(int Code, string Output, string Error)
{
    /// <summary>Asserts success and returns standard output.</summary>
    public string Succeeded()
    {
        Assert.True(Code == 0, $"exit code {Code}\n{Error}\n{Output}");
        return Output;
    }

    /// <summary>Asserts a failure that is told in one line that holds all the parts, without a stack trace.</summary>
    public void FailedWith(int code, params string[] parts)
    {
        Assert.True(Code == code, $"exit code {Code}, expected {code}\n{Error}\n{Output}");
        string line = Assert.Single(Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("engine: ", line, StringComparison.Ordinal);
        foreach (string part in parts)
        {
            Assert.Contains(part, line, StringComparison.Ordinal);
        }

        Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Exception", Error, StringComparison.Ordinal);
    }
}

/// <summary>Runs the engine command: in this process through the program's own entry, or as a process.</summary>
internal static class Command
{
    public static CommandResult Run(params string[] args) => Run("", args, default);

    public static CommandResult Run(string input, string[] args, CancellationToken cancellation)
    {
        using var error = new StringWriter();
        return Run(input, args, error, cancellation);
    }

    public static CommandResult Run(
        string input, string[] args, TextWriter error, CancellationToken cancellation, bool isErrorTerminal = false)
    {
        using var output = new StringWriter();
        using var reader = new StringReader(input);
        var console = new CommandConsole(reader, output, error, () => cancellation) { IsErrorTerminal = isErrorTerminal };
        int code = EngineCommand.Run(args, console);
        return new CommandResult(code, output.ToString(), error.ToString()!);
    }

    /// <summary>Starts the built program.</summary>
    public static Process Start(IReadOnlyDictionary<string, string>? environment, params string[] args)
    {
        var start = new ProcessStartInfo { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        start.FileName = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "engine.dll"));
        foreach (string arg in args)
        {
            start.ArgumentList.Add(arg);
        }

        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    /// <summary>Runs the built program to its end.</summary>
    public static CommandResult RunProcess(IReadOnlyDictionary<string, string>? environment, params string[] args)
    {
        using Process process = Start(environment, args);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        process.WaitForExit();
        return new CommandResult(process.ExitCode, output.Result, error.Result);
    }
}

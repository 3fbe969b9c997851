using System.Reflection;

namespace Engine.Cli;

/// <summary>The program's version.</summary>
internal static class EngineVersion
{
    /// <summary>Version and commit, such as <c>0.1.0+1a2b3c…</c>.</summary>
    public static string Full { get; } =
        typeof(EngineVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    /// <summary>The version without the commit.</summary>
    public static string Number => Full.Split('+')[0];

    /// <summary>The commit it was built from, or null.</summary>
    public static string? Commit => Full.Split('+') is [_, var commit, ..] ? commit : null;
}

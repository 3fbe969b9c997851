namespace Engine.Tests.Shared;

/// <summary>
/// The checkout that the tests' fixtures are in: above the test program, or above the directory that it was started in for a
/// program that was published elsewhere. The test framework changes the working directory to the program's own; the shell's
/// <c>PWD</c> still names the one before.
/// </summary>
internal static class Repository
{
    /// <summary>The path of a file or directory of the checkout.</summary>
    /// <param name="name">Relative to the checkout, with slashes.</param>
    /// <exception cref="FileNotFoundException">It is in no directory that was searched.</exception>
    public static string PathOf(string name)
    {
        foreach (string start in new[] { AppContext.BaseDirectory, Environment.GetEnvironmentVariable("PWD") ?? Directory.GetCurrentDirectory() })
        {
            for (string? at = Path.TrimEndingDirectorySeparator(start); at is not null; at = Path.GetDirectoryName(at))
            {
                string candidate = Path.Combine(at, Path.Combine(name.Split('/')));
                if (Path.Exists(candidate))
                {
                    return candidate;
                }
            }
        }

        throw new FileNotFoundException($"{name} is neither above the test program nor above the working directory");
    }
}

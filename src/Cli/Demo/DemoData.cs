using System.Reflection;
using Engine.Lora.Data;

namespace Engine.Cli.Demo;

/// <summary>The embedded data sets, read as any user's WikiSQL files are.</summary>
internal static class DemoData
{
    /// <summary>One part of a task's data.</summary>
    public static DataSet Load(TaskLanguage language, Split split)
    {
        string name = $"Demo/Data/{TaskDataFiles.Name(language, split)}";
        using Stream questions = Open($"{name}.jsonl");
        return DataReader.Parse(questions, $"{name}.jsonl", null, () =>
        {
            using Stream tables = Open($"{name}.tables.jsonl");
            return WikiSqlTables.Parse(tables, $"{name}.tables.jsonl");
        });
    }

    private static Stream Open(string resource) =>
        Assembly.GetExecutingAssembly().GetManifestResourceStream(resource)
        ?? throw new InvalidOperationException($"{resource} is not embedded in the program");
}

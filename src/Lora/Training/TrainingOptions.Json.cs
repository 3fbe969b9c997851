using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora;

public sealed partial record TrainingOptions
{
    /// <summary>Reads a configuration file and puts its values over those of <paramref name="options"/>.</summary>
    /// <exception cref="EngineDataException">
    /// The file cannot be read, is not JSON, or holds an unknown field or a value of the wrong type.
    /// </exception>
    public static TrainingOptions Load(string path, TrainingOptions? options = null) =>
        Parse(ConfigJson.ReadFile(path), path, options);

    /// <summary>Reads a configuration from JSON text; see <see cref="Load"/>.</summary>
    /// <param name="utf8">A JSON object.</param>
    /// <param name="source">The name for messages, usually the path.</param>
    /// <param name="options">The values of what the text leaves out; null for the defaults.</param>
    public static TrainingOptions Parse(ReadOnlyMemory<byte> utf8, string source, TrainingOptions? options = null)
    {
        using JsonDocument document = ConfigJson.ParseObject(utf8, source);
        TrainingOptions result = options ?? new TrainingOptions();
        foreach (JsonProperty field in document.RootElement.EnumerateObject())
        {
            result = Find(field.Name, source).Read(result, field.Value, source);
        }

        return result;
    }

    /// <summary>The effective options as JSON, every option with its value.</summary>
    public string ToJson()
    {
        var json = new PythonJson();
        json.Open('{');
        foreach (TrainingOption option in All)
        {
            json.Name(option.Name);
            json.Raw(option.ToJson(this));
        }

        json.Close('}');
        return json.ToString();
    }

    /// <summary>Writes <see cref="ToJson"/> to a file that appears whole or not at all.</summary>
    /// <exception cref="EngineDataException">The file cannot be written.</exception>
    public void Save(string path) => AtomicFile.WriteAllText(path, ToJson());

    /// <summary>
    /// The options by which a run that goes on from a checkpoint would give another result than the run that wrote it.
    /// </summary>
    /// <param name="saved">The options in the checkpoint.</param>
    /// <param name="source">The checkpoint, for the message.</param>
    /// <exception cref="EngineDataException">There are any; the message names each with both values.</exception>
    /// <remarks>
    /// With a constant schedule a run may be made longer or shorter. The evaluation options count when either run stops
    /// early by them. Contents of files are not compared here.
    /// </remarks>
    public void RequireResumable(TrainingOptions saved, string source)
    {
        ArgumentNullException.ThrowIfNull(saved);
        bool stopsEarly = Patience is not null || saved.Patience is not null;
        bool mayChangeLength = Schedule == ScheduleKind.Constant && saved.Schedule == ScheduleKind.Constant;
        IEnumerable<string> differences = All
            .Where(option => option.Name switch
            {
                "epochs" or "steps" => !mayChangeLength,
                "eval_every" or "patience" => stopsEarly,
                _ => option.Resume == ResumeRule.Same,
            })
            .Where(option => option.ToJson(this) != option.ToJson(saved))
            .Select(option => $"{option.Name} was {OneLine(option.ToJson(saved))}, is {OneLine(option.ToJson(this))}");
        string text = string.Join("; ", differences);
        if (text.Length > 0)
        {
            throw new EngineDataException(
                $"{source}: cannot resume with other options than the run was started with: {text}; " +
                "give the same options, or start a new run in another directory");
        }
    }

    /// <summary>The option of a name, written with <c>_</c> or <c>-</c>.</summary>
    /// <exception cref="EngineDataException">There is none; the message suggests the closest name.</exception>
    public static TrainingOption Find(string name, string source)
    {
        ArgumentNullException.ThrowIfNull(name);
        string wanted = name.Replace('-', '_');
        TrainingOption? option = All.FirstOrDefault(o => o.Name == wanted);
        if (option is not null)
        {
            return option;
        }

        TrainingOption closest = All.MinBy(o => Distance(o.Name, wanted))!;
        string hint = Distance(closest.Name, wanted) <= Math.Max(2, wanted.Length / 3)
            ? $"; did you mean \"{closest.Name}\"?"
            : $"; expected one of {string.Join(", ", All.Select(o => o.Name))}";
        throw new EngineDataException($"{source}: unknown field \"{name}\"{hint}");
    }

    /// <inheritdoc/>
    public override string ToString() => ToJson();

    private static string OneLine(string json) => string.Join(" ", json.Split('\n').Select(line => line.Trim()));

    /// <summary>Edits (insert, delete, replace) from one word to the other (Levenshtein).</summary>
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int above = row[j];
                row[j] = a[i - 1] == b[j - 1] ? diagonal : 1 + Math.Min(diagonal, Math.Min(above, row[j - 1]));
                diagonal = above;
            }
        }

        return row[b.Length];
    }
}

using System.Globalization;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>What a resumed run may change about an option.</summary>
public enum ResumeRule
{
    /// <summary>The option decides the result: a resumed run must have the same value.</summary>
    Same,

    /// <summary>The option does not change the weights: a resumed run may have another value.</summary>
    Free,
}

/// <summary>What kind of value an option holds, as a command line needs to know it.</summary>
public enum TrainingOptionKind
{
    /// <summary>A path, names or a pattern.</summary>
    Text,

    /// <summary>A whole number.</summary>
    Integer,

    /// <summary>A number.</summary>
    Number,

    /// <summary>True or false.</summary>
    Flag,

    /// <summary>One of <see cref="TrainingOption.Choices"/>.</summary>
    Choice,
}

/// <summary>
/// One option of a training run: its name, its help text, and how it is read from and written to JSON. The command line
/// and the configuration file are both made from <see cref="TrainingOptions.All"/>.
/// </summary>
public sealed class TrainingOption
{
    private readonly Func<TrainingOptions, JsonElement, string, TrainingOptions> _read;
    private readonly Func<TrainingOptions, string> _write;

    internal TrainingOption(
        string name,
        TrainingOptionKind kind,
        string help,
        ResumeRule resume,
        Func<TrainingOptions, JsonElement, string, TrainingOptions> read,
        Func<TrainingOptions, string> write)
    {
        (Name, Kind, Help, Resume, _read, _write) = (name, kind, help, resume, read, write);
    }

    /// <summary>The name in a configuration file, such as <c>weight_decay</c>.</summary>
    public string Name { get; }

    /// <summary>The name on the command line, such as <c>--weight-decay</c>.</summary>
    public string CommandLineName => "--" + Name.Replace('_', '-');

    /// <summary>What kind of value it holds.</summary>
    public TrainingOptionKind Kind { get; }

    /// <summary>What a <see cref="TrainingOptionKind.Choice"/> may be; empty for other kinds.</summary>
    public IReadOnlyList<string> Choices { get; private init; } = [];

    /// <summary>What it does, one sentence without a full stop.</summary>
    public string Help { get; }

    /// <summary>Whether a resumed run may change it.</summary>
    public ResumeRule Resume { get; }

    /// <summary>The value as JSON.</summary>
    public string ToJson(TrainingOptions options) => _write(options);

    /// <summary>The options with this one read from a command line's argument.</summary>
    /// <exception cref="EngineDataException">The text is no value of this option.</exception>
    public TrainingOptions Apply(TrainingOptions options, string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string? json = Kind switch
        {
            TrainingOptionKind.Integer => long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long whole)
                ? whole.ToString(CultureInfo.InvariantCulture)
                : null,
            TrainingOptionKind.Number => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) &&
                double.IsFinite(number)
                ? number.ToString("R", CultureInfo.InvariantCulture)
                : null,
            TrainingOptionKind.Flag => text is "true" or "false" ? text : null,
            TrainingOptionKind.Choice => Choices.Contains(text) ? Quote(text) : null,
            _ => Quote(text),
        };
        if (json is null)
        {
            string expected = Kind switch
            {
                TrainingOptionKind.Integer => "a whole number",
                TrainingOptionKind.Number => "a number",
                TrainingOptionKind.Flag => "true or false",
                _ => $"one of {string.Join(", ", Choices)}",
            };
            throw new EngineDataException($"{CommandLineName} is \"{text}\"; expected {expected}");
        }

        using JsonDocument document = JsonDocument.Parse(json);
        return _read(options, document.RootElement, "command line");
    }

    internal TrainingOptions Read(TrainingOptions options, JsonElement value, string source) => _read(options, value, source);

    internal static TrainingOption Text(
        string name, string help, ResumeRule resume, Func<TrainingOptions, string?> get, Func<TrainingOptions, string?, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Text, help, resume,
            (o, value, source) => set(o, ConfigJson.OptionalString(value, source, name)),
            o => Write(json => json.String(get(o))));

    internal static TrainingOption Number(
        string name, string help, Func<TrainingOptions, double> get, Func<TrainingOptions, double, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Number, help, ResumeRule.Same,
            (o, value, source) => set(o, ConfigJson.Number(value, source, name)),
            o => Write(json => json.Float(get(o))));

    internal static TrainingOption OptionalNumber(
        string name, string help, Func<TrainingOptions, double?> get, Func<TrainingOptions, double?, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Number, help, ResumeRule.Same,
            (o, value, source) => set(o, ConfigJson.IsNull(value) ? null : ConfigJson.Number(value, source, name, "a number or null")),
            o => get(o) is double number ? Write(json => json.Float(number)) : "null");

    internal static TrainingOption Integer(
        string name, string help, Func<TrainingOptions, int> get, Func<TrainingOptions, int, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Integer, help, ResumeRule.Same,
            (o, value, source) => set(o, ConfigJson.Integer(value, source, name)),
            o => get(o).ToString(CultureInfo.InvariantCulture));

    internal static TrainingOption OptionalInteger(
        string name, string help, ResumeRule resume, Func<TrainingOptions, int?> get, Func<TrainingOptions, int?, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Integer, help, resume,
            (o, value, source) => set(o, ConfigJson.IsNull(value) ? null : ConfigJson.Integer(value, source, name, "an integer or null")),
            o => get(o)?.ToString(CultureInfo.InvariantCulture) ?? "null");

    internal static TrainingOption Flag(
        string name, string help, ResumeRule resume, Func<TrainingOptions, bool> get, Func<TrainingOptions, bool, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Flag, help, resume,
            (o, value, source) => set(o, ConfigJson.Boolean(value, source, name)),
            o => get(o) ? "true" : "false");

    internal static TrainingOption Choice<T>(
        string name,
        string help,
        IReadOnlyList<(string Text, T Value)> choices,
        Func<TrainingOptions, T> get,
        Func<TrainingOptions, T, TrainingOptions> set)
    {
        string expected = string.Join(", ", choices.Select(c => c.Text == "null" ? "null" : $"\"{c.Text}\""));
        return new(name, TrainingOptionKind.Choice, help, ResumeRule.Same,
            (o, value, source) =>
            {
                string text = ConfigJson.IsNull(value) ? "null" : ConfigJson.String(value, source, name, expected);
                int index = choices.ToList().FindIndex(c => c.Text == text);
                return index >= 0 ? set(o, choices[index].Value) : throw ConfigJson.Wrong(source, name, value, expected);
            },
            o =>
            {
                string text = choices.First(c => EqualityComparer<T>.Default.Equals(c.Value, get(o))).Text;
                return text == "null" ? text : $"\"{text}\"";
            })
        {
            Choices = [.. choices.Select(c => c.Text).Where(c => c != "null")],
        };
    }

    internal static TrainingOption TargetList(
        string name, string help, Func<TrainingOptions, NamesOrPattern?> get, Func<TrainingOptions, NamesOrPattern?, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Text, help, ResumeRule.Same,
            (o, value, source) => set(o, value.ValueKind switch
            {
                JsonValueKind.Null => null,
                JsonValueKind.String => NamesOrPattern.FromText(ConfigJson.String(value, source, name)),
                _ => NamesOrPattern.FromNames(ConfigJson.Strings(value, source, name, "names, a regular expression, \"all-linear\" or null")),
            }),
            o => Write(json =>
            {
                if (get(o)?.Pattern is string pattern)
                {
                    json.String(pattern);
                }
                else
                {
                    json.Strings(get(o)?.Names);
                }
            }));

    internal static TrainingOption LongInteger(
        string name, string help, Func<TrainingOptions, long> get, Func<TrainingOptions, long, TrainingOptions> set) =>
        new(name, TrainingOptionKind.Integer, help, ResumeRule.Same,
            (o, value, source) => value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number)
                ? set(o, number)
                : throw ConfigJson.Wrong(source, name, value, "an integer"),
            o => get(o).ToString(CultureInfo.InvariantCulture));

    private static string Quote(string text) => $"\"{JsonEncodedText.Encode(text)}\"";

    private static string Write(Action<PythonJson> write)
    {
        var json = new PythonJson(depth: 1);
        write(json);
        return json.ToString();
    }
}

using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>Makes options whose errors say what would be right; nothing is bound by reflection.</summary>
internal static class OptionOf
{
    public static Option<string> Text(string name, string valueName, string help, bool required = false, string? @default = null)
    {
        var option = new Option<string>(name) { Description = help, HelpName = valueName, Required = required };
        if (@default is not null)
        {
            option.DefaultValueFactory = _ => @default;
        }

        return option;
    }

    public static Option<string[]> Texts(string name, string valueName, string help, bool required = false) => new(name)
    {
        Description = help,
        HelpName = valueName,
        Required = required,
        Arity = required ? ArgumentArity.OneOrMore : ArgumentArity.ZeroOrMore,
        CustomParser = result => [.. result.Tokens.Select(t => t.Value)],
    };

    /// <summary>One of several words; the first is the default.</summary>
    public static Option<string> Choice(string name, string help, params string[] choices) => new(name)
    {
        Description = help,
        HelpName = string.Join('|', choices),
        DefaultValueFactory = _ => choices[0],
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            if (!choices.Contains(text))
            {
                result.AddError($"{name} is \"{text}\"; expected {string.Join(" or ", choices)}");
            }

            return text;
        },
    };

    public static Option<bool> Flag(string name, string help) => new(name) { Description = help };

    public static Option<int?> OptionalInteger(string name, string help, int min = int.MinValue, int max = int.MaxValue) => new(name)
    {
        Description = help,
        HelpName = "N",
        CustomParser = result => Integer(result, name, min, max) is { } value ? (int)value : null,
    };

    public static Option<int> Integer(string name, string help, int @default, int min = int.MinValue, int max = int.MaxValue) => new(name)
    {
        Description = help,
        HelpName = "N",
        DefaultValueFactory = _ => @default,
        CustomParser = result => (int)(Integer(result, name, min, max) ?? @default),
    };

    public static Option<long> Seed(string help) => new("--seed")
    {
        Description = help,
        HelpName = "N",
        DefaultValueFactory = _ => 0,
        CustomParser = result => Integer(result, "--seed", long.MinValue, long.MaxValue) ?? 0,
    };

    public static Option<double?> OptionalNumber(string name, string help) => new(name)
    {
        Description = help,
        HelpName = "X",
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && double.IsFinite(value))
            {
                return value;
            }

            result.AddError($"{name} is \"{text}\"; expected a number");
            return null;
        },
    };

    /// <summary>Element types to compute in; null unless one is given.</summary>
    public static Option<DType?> DTypeOption(string help) => new("--dtype")
    {
        Description = help,
        HelpName = "f32|bf16|f16",
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            foreach (DType dtype in (DType[])[DType.F32, DType.BF16, DType.F16])
            {
                if (dtype.Name() == text)
                {
                    return dtype;
                }
            }

            result.AddError($"--dtype is \"{text}\"; expected f32, bf16 or f16");
            return null;
        },
    };

    private static long? Integer(ArgumentResult result, string name, long min, long max)
    {
        string text = result.Tokens[0].Value;
        bool whole = long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long value);
        if (whole && value >= min && value <= max)
        {
            return value;
        }

        string range = (min > int.MinValue, max < int.MaxValue) switch
        {
            (true, true) => $"a whole number from {min} to {max}",
            (true, false) => $"a whole number of at least {min}",
            _ => "a whole number",
        };
        result.AddError($"{name} is \"{text}\"; expected {range}");
        return null;
    }
}

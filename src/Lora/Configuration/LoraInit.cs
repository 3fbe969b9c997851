using System.Globalization;

namespace Engine.Lora;

/// <summary>How A and B start (PEFT's <c>init_lora_weights</c>).</summary>
public enum LoraInitKind
{
    /// <summary><c>true</c>: A from the Kaiming uniform distribution with a = √5, B zero.</summary>
    Default,

    /// <summary><c>false</c>: A and B both from the Kaiming uniform distribution; the adapter starts non-zero.</summary>
    Random,

    /// <summary><c>"gaussian"</c>: A normal with standard deviation 1/r, B zero.</summary>
    Gaussian,

    /// <summary>
    /// <c>"pissa"</c> or <c>"pissa_niter_N"</c>: A and B hold the r largest singular directions of the weight, which
    /// is replaced by what remains (Meng et al., 2024, "PiSSA").
    /// </summary>
    Pissa,
}

/// <summary>How A and B start, with the number of subspace iterations of the randomised PiSSA form.</summary>
/// <param name="Kind">The method.</param>
/// <param name="Iterations">
/// The N of <c>pissa_niter_N</c>, or null: <c>pissa</c> is an exact singular value decomposition.
/// </param>
public readonly record struct LoraInit(LoraInitKind Kind, int? Iterations = null)
{
    private const string PissaPrefix = "pissa_niter_";

    /// <summary>The values that <see cref="TryParse"/> accepts, for messages.</summary>
    public const string Supported = "true, false, \"gaussian\", \"pissa\" or \"pissa_niter_N\" with N at least 1";

    /// <summary>Reads the string forms: <c>gaussian</c>, <c>pissa</c>, <c>pissa_niter_N</c>.</summary>
    public static bool TryParse(string? text, out LoraInit init)
    {
        init = default;
        switch (text)
        {
            case "gaussian":
                init = new LoraInit(LoraInitKind.Gaussian);
                return true;
            case "pissa":
                init = new LoraInit(LoraInitKind.Pissa);
                return true;
            default:
                if (text is null || !text.StartsWith(PissaPrefix, StringComparison.Ordinal) ||
                    !int.TryParse(text.AsSpan(PissaPrefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int n) ||
                    n < 1)
                {
                    return false;
                }

                init = new LoraInit(LoraInitKind.Pissa, n);
                return true;
        }
    }

    /// <summary>The value as PEFT writes it in JSON, quotes included where it is a string.</summary>
    public string ToJson() => Kind switch
    {
        LoraInitKind.Default => "true",
        LoraInitKind.Random => "false",
        LoraInitKind.Gaussian => "\"gaussian\"",
        _ => Iterations is int n ? $"\"{PissaPrefix}{n}\"" : "\"pissa\"",
    };
}

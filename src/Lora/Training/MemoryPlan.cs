using System.Globalization;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>How a step's rows are spread over forward passes so that a run stays within a given amount of memory.</summary>
/// <param name="BatchSize">Rows in a forward pass: a divisor of the step's rows.</param>
/// <param name="Accumulate">Forward passes in a step.</param>
/// <param name="GradientCheckpointing">Whether blocks are computed again in the backward pass.</param>
/// <param name="Estimate">Bytes that the run takes, by estimate.</param>
/// <param name="Limit">Bytes it may take.</param>
public sealed record MemoryPlan(int BatchSize, int Accumulate, bool GradientCheckpointing, long Estimate, long Limit)
{
    private static readonly (string Unit, long Bytes)[] s_units =
    [
        ("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("TiB", 1L << 40),
        ("KB", 1000), ("MB", 1000_000), ("GB", 1000_000_000), ("TB", 1000_000_000_000), ("B", 1),
    ];

    /// <summary>
    /// The largest forward pass that fits, without checkpointing if any does: checkpointing costs about a third more time, a
    /// smaller pass usually less. A step keeps its rows, so that its gradient is the same up to rounding.
    /// </summary>
    /// <param name="limit">Bytes that the run may take.</param>
    /// <param name="options">The run as asked for.</param>
    /// <param name="estimate">Bytes for so many rows, checkpointed or not.</param>
    /// <exception cref="EngineDataException">Not even one row fits.</exception>
    public static MemoryPlan Choose(long limit, TrainingOptions options, Func<int, bool, long> estimate)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(estimate);
        int step = checked(options.BatchSize * options.Accumulate);
        foreach (bool checkpointing in options.GradientCheckpointing ? new[] { true } : [false, true])
        {
            for (int passes = 1; passes <= step; passes++)
            {
                if (step % passes == 0 && estimate(step / passes, checkpointing) is var bytes && bytes <= MemoryHint.Usable * limit)
                {
                    return new MemoryPlan(step / passes, passes, checkpointing, bytes, limit);
                }
            }
        }

        throw new EngineDataException(
            $"option \"max_memory\" is {Text(limit)}; one row takes {Text((long)(estimate(1, true) / MemoryHint.Usable))} even with gradient checkpointing, by estimate: " +
            "allow that much, or take a smaller max_length, a narrower dtype or a lower rank");
    }

    /// <summary>The options of the run that was chosen.</summary>
    public TrainingOptions Apply(TrainingOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options with { BatchSize = BatchSize, Accumulate = Accumulate, GradientCheckpointing = GradientCheckpointing };
    }

    /// <summary>What was chosen, in words.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Rows(BatchSize)} in a forward pass, {(Accumulate == 1 ? "which is a step" : $"{Accumulate} of them in a step")}, " +
        $"{(GradientCheckpointing ? "blocks computed again in the backward pass" : "no checkpointing")}: " +
        $"{Text(Estimate)} by estimate, of {Text(Limit)} allowed");

    /// <summary>Bytes of a size such as <c>20GiB</c>, <c>1.5 GB</c> or <c>800MiB</c>; null when it is none.</summary>
    public static long? ParseSize(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string trimmed = text.Trim();
        foreach ((string unit, long bytes) in s_units)
        {
            if (trimmed.EndsWith(unit, StringComparison.OrdinalIgnoreCase))
            {
                bool isNumber = double.TryParse(
                    trimmed[..^unit.Length].TrimEnd(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number);
                return isNumber && number * bytes is >= 1 and < long.MaxValue ? (long)(number * bytes) : null;
            }
        }

        return null;
    }

    private static string Rows(int count) => count == 1 ? "1 row" : $"{count} rows";

    private static string Text(long bytes)
    {
        (string unit, int shift) = bytes switch
        {
            >= 10L << 30 => ("GiB", 30),
            >= 1L << 20 => ("MiB", 20),
            _ => ("KiB", 10),
        };
        return string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << shift):#,0.#} {unit}");
    }
}

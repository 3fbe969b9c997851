namespace Engine.Lora;

/// <summary>Which batch would fit, for whoever has run out of memory.</summary>
/// <param name="batchSize">Rows in a forward pass of the run that did not fit.</param>
/// <param name="accumulate">Forward passes in its step.</param>
/// <param name="checkpointing">Whether it computed blocks again in the backward pass.</param>
/// <param name="estimate">Bytes that a run with so many rows, checkpointed or not, takes in all.</param>
public sealed class MemoryHint(int batchSize, int accumulate, bool checkpointing, Func<int, bool, long> estimate)
{
    // The estimate knows nothing of what a pool and the libraries keep for themselves.
    internal const double Usable = 0.95;

    /// <summary>
    /// The largest batch whose estimate fits, at most <paramref name="limit"/> rows; 0 when not even one row does.
    /// </summary>
    public int Largest(long bytes, bool checkpointed, int limit)
    {
        int low = 0;
        int high = limit;
        while (low < high)
        {
            int middle = low + ((high - low + 1) / 2);
            if (estimate(middle, checkpointed) <= Usable * bytes)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return low;
    }

    /// <summary>The advice, one sentence.</summary>
    /// <param name="bytes">Memory that the process can use on the device.</param>
    public string For(long bytes)
    {
        // The run's own size did not fit, whatever the estimate says.
        int plain = Largest(bytes, checkpointing, batchSize - 1);
        int again = checkpointing ? 0 : Largest(bytes, checkpointed: true, batchSize);
        string room = $"By estimate {bytes >> 20:N0} MiB hold";
        return (plain, again > plain) switch
        {
            (0, false) => $"By estimate not even {(checkpointing ? "one row" : "one row with --gradient-checkpointing")} fits in {bytes >> 20:N0} MiB: " +
                "a smaller --max-length, a narrower --dtype or a lower --rank needs less",
            (0, true) => $"{room} {Option(again)} with --gradient-checkpointing",
            (_, false) => $"{room} {Option(plain)}",
            (_, true) => $"{room} {Option(plain)}, or {Option(again)} with --gradient-checkpointing",
        };
    }

    private string Option(int rows) => rows < batchSize && batchSize % rows == 0
        ? $"--batch-size {rows} (--accumulate {accumulate * (batchSize / rows)} makes the same step of it)"
        : $"--batch-size {rows}";
}

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;

namespace Engine.Tensors;

public abstract partial class Device
{
    /// <summary>
    /// Environment variable: a device created while it is <c>1</c> remembers where each of its storages was allocated.
    /// That costs a stack walk for each allocation; without it a device pays nothing.
    /// </summary>
    public const string TrackLeaksVariable = "ENGINE_TRACK_LEAKS";

    private readonly ConcurrentDictionary<Storage, StackTrace>? _origins =
        Environment.GetEnvironmentVariable(TrackLeaksVariable) == "1" ? new() : null;

    /// <summary>
    /// What is alive, for people: one paragraph for each place that allocated, the most bytes first, with its stack trace.
    /// Without <see cref="TrackLeaksVariable"/> the totals alone. Empty when nothing is alive.
    /// </summary>
    public string LeakReport()
    {
        if (LiveStorages == 0)
        {
            return "";
        }

        var report = new StringBuilder($"{LiveStorages:N0} storages with {LiveBytes:N0} bytes are alive on {Name}");
        if (_origins is null)
        {
            return report.Append($"; set {TrackLeaksVariable}=1 to see where they were allocated").ToString();
        }

        var places = _origins
            .GroupBy(entry => entry.Value.ToString(), entry => entry.Key.ByteLength)
            .Select(place => (Stack: place.Key, Storages: place.Count(), Bytes: place.Sum()))
            .OrderByDescending(place => place.Bytes);
        foreach ((string stack, int storages, long bytes) in places)
        {
            report.AppendLine().Append($"{storages:N0} storages, {bytes:N0} bytes, allocated").AppendLine().Append(stack.TrimEnd());
        }

        return report.ToString();
    }

    // Not inlined, so that the one frame skipped is always this one.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Track(Storage storage) => _origins!.TryAdd(storage, new StackTrace(skipFrames: 1, fNeedFileInfo: true));
}

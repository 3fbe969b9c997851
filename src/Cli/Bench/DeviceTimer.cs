using System.Diagnostics;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Bench;

/// <summary>Times single calls on a device: by events on a GPU, by the clock on the CPU.</summary>
internal static class DeviceTimer
{
    // What the GPU copies while the host queues the calls to time. No GPU moves these 2·128 MiB in less than 30 µs (that would
    // be 9 TB/s).
    private const long HoldBytes = 128L << 20;
    private const double HoldMicroseconds = 30;
    private const int MostHolds = 2000;

    /// <summary>Microseconds of each of <paramref name="count"/> calls; <paramref name="call"/> has run before.</summary>
    /// <param name="device">Where the calls run.</param>
    /// <param name="count">Number of calls.</param>
    /// <param name="call">Queues or runs call number n.</param>
    public static double[] Microseconds(Device device, int count, Action<int> call)
    {
        device.Synchronize();
        return device is CudaDevice cuda ? ByEvents(cuda, count, call) : ByClock(device, count, call);
    }

    /// <summary>The middle value.</summary>
    public static double Median(IReadOnlyList<double> values)
    {
        double[] sorted = [.. values.Order()];
        int middle = sorted.Length / 2;
        return sorted.Length == 0 ? double.NaN : sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    private static double[] ByClock(Device device, int count, Action<int> call)
    {
        var times = new double[count];
        for (int i = 0; i < count; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            call(i);
            device.Synchronize();
            times[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        }

        return times;
    }

    private static double[] ByEvents(CudaDevice device, int count, Action<int> call)
    {
        // Were the GPU idle, it would pass the first event of a pair at once and then wait for the host to queue the kernel.
        // So it is given copies to make for as long as the host takes to queue all of them.
        long begin = Stopwatch.GetTimestamp();
        int trial = Math.Min(count, 10);
        for (int i = 0; i < trial; i++)
        {
            call(i);
        }

        double host = Stopwatch.GetElapsedTime(begin).TotalMicroseconds * count / trial;
        device.Synchronize();
        CudaEvent[] before = Events(count);
        CudaEvent[] after = Events(count);
        try
        {
            Hold(device, 2 * host);
            for (int i = 0; i < count; i++)
            {
                before[i].Record(device.Stream);
                call(i);
                after[i].Record(device.Stream);
            }

            device.Synchronize();
            return [.. before.Select((b, i) => 1000.0 * after[i].MillisecondsSince(b))];
        }
        finally
        {
            Array.ForEach(before, e => e.Dispose());
            Array.ForEach(after, e => e.Dispose());
        }
    }

    private static CudaEvent[] Events(int count) => [.. Enumerable.Range(0, count).Select(_ => new CudaEvent(timing: true))];

    private static void Hold(CudaDevice device, double microseconds)
    {
        Storage storage = device.Allocate(2 * HoldBytes);
        int holds = (int)Math.Min(MostHolds, 2 + (microseconds / HoldMicroseconds));
        for (int i = 0; i < holds; i++)
        {
            device.Copy(storage.Pointer, storage.Pointer + (nint)HoldBytes, HoldBytes);
        }

        storage.Release();
    }
}

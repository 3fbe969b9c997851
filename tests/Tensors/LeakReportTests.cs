using System.Runtime.CompilerServices;

namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class LeakReportTests
{
    [Fact]
    public void Without_tracking_the_report_has_totals_alone()
    {
        CpuDevice device = Create(tracks: null);
        Assert.Equal("", device.LeakReport());
        Storage storage = device.Allocate(1000);
        string report = device.LeakReport();
        Assert.StartsWith("1 storages with 1,000 bytes are alive on cpu", report);
        Assert.Contains("ENGINE_TRACK_LEAKS=1", report);
        storage.Release();
        Assert.Equal("", device.LeakReport());
        device.Trim();
    }

    [Fact]
    public void With_tracking_the_report_names_the_places_that_allocated()
    {
        CpuDevice device = Create(tracks: "1");
        Assert.Equal("", device.LeakReport());
        using Tensor small = Tensor.Zeros([3], DType.F32, device);
        var leaks = new List<Tensor>();
        for (int i = 0; i < 3; i++)
        {
            leaks.Add(Forget(device));
        }

        Tensor.Zeros([99], DType.F32, device).Dispose();
        string report = device.LeakReport();
        Assert.StartsWith("4 storages with 3,012 bytes are alive on cpu", report);
        string[] paragraphs = report.Split("allocated" + Environment.NewLine);
        Assert.Equal(3, paragraphs.Length);

        // The most bytes first, and one paragraph for the three storages of one place.
        Assert.EndsWith("3 storages, 3,000 bytes, ", paragraphs[0]);
        Assert.Contains(nameof(Forget), paragraphs[1]);
        Assert.EndsWith("1 storages, 12 bytes, ", paragraphs[1]);
        Assert.DoesNotContain(nameof(Forget), paragraphs[2]);
        Assert.Contains(nameof(With_tracking_the_report_names_the_places_that_allocated), paragraphs[2]);

        leaks.ForEach(tensor => tensor.Dispose());
        small.Dispose();
        Assert.Equal("", device.LeakReport());
        device.Trim();
    }

    // Other tests that make a device meanwhile are affected too; nothing they assert depends on it.
    private static CpuDevice Create(string? tracks)
    {
        string? before = Environment.GetEnvironmentVariable(Device.TrackLeaksVariable);
        try
        {
            Environment.SetEnvironmentVariable(Device.TrackLeaksVariable, tracks);
            return new CpuDevice();
        }
        finally
        {
            Environment.SetEnvironmentVariable(Device.TrackLeaksVariable, before);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Tensor Forget(CpuDevice device) => Tensor.Empty([250], DType.F32, device);
}

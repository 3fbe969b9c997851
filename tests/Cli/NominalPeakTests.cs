namespace Engine.Cli.Tests;

public sealed class NominalPeakTests
{
    [Theory]
    [InlineData("NVIDIA H100 80GB HBM3", 989e12)]
    [InlineData("NVIDIA H100 PCIe", 756e12)]
    [InlineData("NVIDIA H200", 989e12)]
    [InlineData("NVIDIA H200 NVL", 836e12)]
    [InlineData("NVIDIA A100-SXM4-80GB", 312e12)]
    [InlineData("NVIDIA L4", 121e12)]
    [InlineData("NVIDIA L40S", 362e12)]
    [InlineData("NVIDIA GeForce RTX 4090", 165e12)]
    public void A_gpu_is_known_by_its_name(string name, double flops) => Assert.Equal(flops, NominalPeak.Of(name));

    [Theory]
    [InlineData("NVIDIA A1000")]
    [InlineData("NVIDIA H100 80GB HBM3 MIG 1g.10gb")]
    [InlineData("NVIDIA L400")]
    [InlineData("")]
    public void Another_one_has_no_rate(string name) => Assert.Null(NominalPeak.Of(name));
}

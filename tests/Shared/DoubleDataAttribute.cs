using System.Reflection;
using Xunit.Sdk;
using Xunit.v3;

namespace Engine.Tests.Shared;

/// <summary>A row like <c>InlineData</c>'s in double precision, which is the CPU's alone: it carries the trait <c>Device=Cpu</c>.</summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
internal sealed class DoubleDataAttribute(params object?[] data) : DataAttribute
{
    public override ValueTask<IReadOnlyCollection<ITheoryDataRow>> GetData(MethodInfo testMethod, DisposalTracker disposalTracker)
    {
        var row = new TheoryDataRow(data);
        row.Traits.Add("Device", ["Cpu"]);
        return new([row]);
    }

    public override bool SupportsDiscoveryEnumeration() => true;
}

using System.Reflection;
using Xunit.Sdk;
using Xunit.v3;

namespace Engine.Tests.Shared;

/// <summary>A row like <c>InlineData</c>'s for a device that computes in double precision; no row on others.</summary>
[AttributeUsage(AttributeTargets.Method, AllowMultiple = true)]
internal sealed class DoubleDataAttribute(params object?[] data) : DataAttribute
{
    public override ValueTask<IReadOnlyCollection<ITheoryDataRow>> GetData(MethodInfo testMethod, DisposalTracker disposalTracker) =>
        new(TestDevice.IsCuda ? [] : [new TheoryDataRow(data)]);

    public override bool SupportsDiscoveryEnumeration() => true;
}

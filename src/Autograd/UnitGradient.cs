using System.Collections.Concurrent;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>The number one as a gradient: one tensor for each device and dtype, recognised by its storage.</summary>
internal static class UnitGradient
{
    private static readonly ConcurrentDictionary<(Device, DType), Tensor> s_ones = new();

    /// <summary>A share of the one that goes with a scalar loss [1].</summary>
    public static Tensor Like(Tensor loss) => s_ones.GetOrAdd((loss.Device, loss.DType), static key =>
    {
        (Device device, DType dtype) = key;
        using DurableScope durable = device.Durable();
        return dtype == DType.F64 ? Tensor.From([1.0], [1], device) : Tensor.From([1f], [1], device);
    }).Share();

    /// <summary>Whether a gradient is known to be one.</summary>
    public static bool Is(Tensor gradient) =>
        s_ones.TryGetValue((gradient.Device, gradient.DType), out Tensor? one) && ReferenceEquals(one.Storage, gradient.Storage);
}

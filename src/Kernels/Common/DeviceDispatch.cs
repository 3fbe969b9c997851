using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>What an op says when it has no implementation for a device. Each op switches on <see cref="Device.Kind"/> itself.</summary>
internal static class DeviceDispatch
{
    /// <summary>The exception to throw from the <c>default</c> arm of an op's switch.</summary>
    public static NotSupportedException Unsupported(string op, Device device) =>
        new($"{op} has no implementation for device {device.Name} ({device.Kind}); move the tensors to the cpu");
}

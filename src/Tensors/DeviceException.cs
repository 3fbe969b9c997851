namespace Engine.Tensors;

/// <summary>A device refused or failed a call, for another reason than memory for a tensor (<see cref="DeviceOutOfMemoryException"/>).</summary>
public abstract class DeviceException(string message) : Exception(message);

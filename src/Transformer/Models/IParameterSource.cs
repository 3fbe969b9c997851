using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>Where a model's parameters come from when it is built: a checkpoint, or an initialisation.</summary>
public interface IParameterSource
{
    /// <summary>A new tensor for a parameter, in the wanted dtype on the wanted device; the caller owns it.</summary>
    /// <exception cref="EngineDataException">The parameter is missing or has another shape.</exception>
    Tensor Get(string name, Shape shape, DType dtype, Device device);
}

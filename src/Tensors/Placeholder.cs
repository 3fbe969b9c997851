namespace Engine.Tensors;

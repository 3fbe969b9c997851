namespace Engine.Kernels;

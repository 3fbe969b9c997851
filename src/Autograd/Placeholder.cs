namespace Engine.Autograd;

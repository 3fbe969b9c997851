namespace Engine.Transformer;

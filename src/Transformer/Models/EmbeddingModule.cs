using Engine.Autograd;

namespace Engine.Transformer;

/// <summary>A table of vectors looked up by token id or by position.</summary>
public sealed class EmbeddingModule(string path, Variable weight)
{
    /// <summary>The module's path, such as <c>model.embed_tokens</c>.</summary>
    public string Path { get; } = path;

    /// <summary>The table [V,D]; exchanged when an adapter brings a trained copy.</summary>
    public Variable Weight { get; set; } = weight;
}

using Engine.Transformer.Tokenization;

namespace Engine.Lora.Data;

/// <summary>A tokenizer as <see cref="ExampleBuilder"/> uses it.</summary>
public sealed class TokenizerEncoder(Tokenizer tokenizer) : ITokenEncoder
{
    /// <inheritdoc/>
    public int? BosId => tokenizer.SpecialTokens.BeginningOfSequence;

    /// <inheritdoc/>
    public int? EosId => tokenizer.SpecialTokens.EndOfSequence;

    /// <inheritdoc/>
    public int[] Encode(string text, bool addSpecial) => tokenizer.Encode(text, addSpecial);
}

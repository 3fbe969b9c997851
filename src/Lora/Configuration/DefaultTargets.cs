namespace Engine.Lora;

/// <summary>The layers PEFT adapts when <c>target_modules</c> is null, for each supported model type.</summary>
public static class DefaultTargets
{
    /// <summary>The default targets of <paramref name="modelType"/> (<c>model_type</c> of the model's config.json).</summary>
    /// <returns>The targets, or null when PEFT has no default for the type among those Engine supports.</returns>
    public static NamesOrPattern? For(string? modelType) => modelType switch
    {
        "gpt2" => NamesOrPattern.FromNames("c_attn"),
        "llama" or "mistral" or "qwen2" or "qwen3" => NamesOrPattern.FromNames("q_proj", "v_proj"),
        _ => null,
    };
}

namespace Engine.Lora;

/// <summary>Which bias vectors of the base model are trained and saved with the adapter (PEFT's <c>bias</c>).</summary>
public enum LoraBias
{
    /// <summary><c>none</c>: no bias is trained.</summary>
    None,

    /// <summary><c>all</c>: every bias of the model, the norms' included.</summary>
    All,

    /// <summary><c>lora_only</c>: the biases of the adapted layers.</summary>
    LoraOnly,
}

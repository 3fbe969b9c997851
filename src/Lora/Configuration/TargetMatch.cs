namespace Engine.Lora;

/// <summary>A layer that gets a low-rank update.</summary>
/// <param name="Module">The layer.</param>
/// <param name="Rank">Its rank, after <c>rank_pattern</c>.</param>
/// <param name="Alpha">Its α, after <c>alpha_pattern</c>.</param>
/// <param name="Scale">The factor before B·A.</param>
public sealed record TargetedModule(ModuleDescription Module, int Rank, double Alpha, double Scale);

/// <summary>What a configuration selects in one model.</summary>
/// <param name="Targets">The layers with a low-rank update, in the model's order; never empty.</param>
/// <param name="Saved">The layers trained and saved in full (<c>modules_to_save</c>), in the model's order.</param>
/// <param name="Unmatched">
/// Entries of the configuration that selected nothing, each as <c>field "entry"</c>, for a warning. PEFT passes over
/// most of these in silence.
/// </param>
public sealed record TargetMatch(
    IReadOnlyList<TargetedModule> Targets,
    IReadOnlyList<ModuleDescription> Saved,
    IReadOnlyList<string> Unmatched)
{
    /// <summary>
    /// The value for <c>fan_in_fan_out</c> that goes with the selected layers; PEFT corrects the field to it.
    /// </summary>
    public bool FanInFanOut => Targets[^1].Module.Kind == ModuleKind.Conv1D;
}

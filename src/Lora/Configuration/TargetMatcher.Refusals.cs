using Engine.Tensors;

namespace Engine.Lora;

/// <content>What is refused, and what the messages say.</content>
public sealed partial class TargetMatcher
{
    /// <summary>
    /// Containers such as <c>model.layers.0.mlp</c> hold no parameters themselves; PEFT refuses to adapt one, so a
    /// pattern that catches a container must not quietly adapt something less.
    /// </summary>
    private void RefuseGroups(IReadOnlyList<ModuleDescription> modules)
    {
        if (_targets.IsAllLinear)
        {
            return;
        }

        var seen = modules.Select(m => m.Path).ToHashSet(StringComparer.Ordinal);
        foreach (ModuleDescription module in modules)
        {
            for (int dot = module.Path.LastIndexOf('.'); dot > 0; dot = module.Path.LastIndexOf('.', dot - 1))
            {
                string group = module.Path[..dot];
                if (seen.Add(group) && Judge(group, kind: null) == Verdict.Targeted)
                {
                    throw new EngineDataException(
                        $"{_source}: field \"target_modules\" is {_targets}, which matches {group}: that is a group of layers, " +
                        $"not a linear layer; expected one of {ModuleNames(modules)}");
                }
            }
        }
    }

    private void RefuseKind(ModuleDescription module)
    {
        if (module.Kind is ModuleKind.Embedding or ModuleKind.Norm)
        {
            string kind = module.Kind == ModuleKind.Embedding ? "an embedding" : "a norm";
            throw new EngineDataException(
                $"{_source}: field \"target_modules\" is {_targets}, which matches {module.Path}: low-rank updates of {kind} are " +
                "not supported; expected linear layers only (modules_to_save trains such a layer in full)");
        }
    }

    private void RefuseRank(ModuleDescription module, int rank)
    {
        if (_config.Init.Kind == LoraInitKind.Pissa && rank > Math.Min(module.InFeatures, module.OutFeatures))
        {
            throw new EngineDataException(
                $"{_source}: field \"r\" gives rank {rank} for {module.Path} [{module.OutFeatures}, {module.InFeatures}]; " +
                $"expected at most {Math.Min(module.InFeatures, module.OutFeatures)} with \"init_lora_weights\": \"pissa\"");
        }
    }

    /// <summary>
    /// The two uses of <c>modules_to_save</c> differ in PEFT: what it keeps from being adapted needs whole segments,
    /// what it trains in full only the end of a path. <c>proj</c> would both adapt and train <c>q_proj</c>.
    /// </summary>
    private void RefuseBoth(List<TargetedModule> targets, List<ModuleDescription> saved)
    {
        TargetedModule? both = targets.Find(target => saved.Contains(target.Module));
        if (both is not null)
        {
            throw new EngineDataException(
                $"{_source}: field \"modules_to_save\" is [{string.Join(", ", _config.ModulesToSave!)}], which matches the end of " +
                $"{both.Module.Path}, a module that \"target_modules\" {_targets} adapts; expected whole names, so that a module is " +
                "either adapted or trained in full");
        }
    }

    private EngineDataException NothingMatched(IReadOnlyList<ModuleDescription> modules, int excluded)
    {
        string layers = _config.LayersToTransform is null
            ? ""
            : $", restricted to \"layers_to_transform\" {_config.LayersToTransform}";
        string pattern = _config.LayersPattern is null ? "" : $" under \"layers_pattern\" {_config.LayersPattern}";
        string left = excluded == 0
            ? ""
            : $" ({excluded} module(s) are left out by \"exclude_modules\" or \"modules_to_save\")";
        return new EngineDataException(
            $"{_source}: field \"target_modules\" is {_targets}{layers}{pattern}, which matches no module of this model{left}. " +
            $"Modules of this model: {ModuleNames(modules)}");
    }

    /// <summary>The last segments of the paths, each once, in the model's order: what a user writes as a target.</summary>
    private static string ModuleNames(IReadOnlyList<ModuleDescription> modules) =>
        string.Join(", ", modules
            .Where(m => m.Kind is ModuleKind.Linear or ModuleKind.Conv1D or ModuleKind.Head)
            .Select(m => m.Path[(m.Path.LastIndexOf('.') + 1)..])
            .Distinct(StringComparer.Ordinal));
}

using Engine.Tensors;

namespace Engine.Lora;

public sealed partial record LoraConfig
{
    /// <summary>Checks every value and the rules between fields.</summary>
    /// <param name="source">The name for messages, usually the path of the file.</param>
    /// <exception cref="EngineDataException">A value is out of range or two fields exclude each other.</exception>
    public void Validate(string source = FileName)
    {
        Require(Rank >= 1, source, "r", $"{Rank}", "an integer of at least 1");
        Require(IsPositive(Alpha), source, "lora_alpha", PythonJson.FloatText(Alpha), "a number above 0");
        Require(
            Dropout is >= 0 and < 1, source, "lora_dropout", PythonJson.FloatText(Dropout), "a probability in [0, 1)");
        Require(Enum.IsDefined(Bias), source, "bias", $"{(int)Bias}", "none, all or lora_only");
        Require(
            TaskType is null or "CAUSAL_LM", source, "task_type", $"\"{TaskType}\"", "\"CAUSAL_LM\" or null");
        ValidateInit(source);
        ValidateTargets(source);
        ValidateLayers(source);
        ValidatePatterns(source);
        foreach (string name in ModulesToSave ?? [])
        {
            Require(name.Length > 0, source, "modules_to_save", "[\"\"]", "names that are not empty");
            _ = TargetMatcher.SavedPattern(name, source);
        }
    }

    private static bool IsPositive(double value) => double.IsFinite(value) && value > 0;

    private static void Require(bool holds, string source, string field, string value, string expected)
    {
        if (!holds)
        {
            throw new EngineDataException($"{source}: field \"{field}\" is {value}; expected {expected}");
        }
    }

    private void ValidateInit(string source)
    {
        bool known = Enum.IsDefined(Init.Kind) &&
            (Init.Iterations is null || (Init.Kind == LoraInitKind.Pissa && Init.Iterations >= 1));
        Require(known, source, "init_lora_weights", $"{Init}", LoraInit.Supported);
    }

    private void ValidateTargets(string source)
    {
        ValidateNames(TargetModules, source, "target_modules");
        ValidateNames(ExcludeModules, source, "exclude_modules");
        Require(
            TargetModules?.Names is not { Count: 0 }, source, "target_modules", "[]",
            "at least one name, a regular expression, \"all-linear\", or null for the model type's default");
        if (TargetModules?.Pattern is string pattern && !TargetModules.IsAllLinear)
        {
            _ = PythonRegex.Full(pattern, source, "target_modules");
        }

        if (ExcludeModules?.Pattern is { Length: > 0 } excluded)
        {
            _ = PythonRegex.Full(excluded, source, "exclude_modules");
        }
    }

    private static void ValidateNames(NamesOrPattern? value, string source, string field)
    {
        foreach (string name in value?.Names ?? [])
        {
            Require(name.Length > 0, source, field, "[\"\"]", "names that are not empty");
        }

        if (field == "target_modules" && value?.Pattern is { Length: 0 })
        {
            Require(false, source, field, "\"\"", "a name list, a regular expression or \"all-linear\"");
        }
    }

    private void ValidateLayers(string source)
    {
        // PEFT: a regular expression chooses its layers itself, so the two layer fields go with a list only.
        bool isPattern = TargetModules?.Pattern is not null;
        Require(
            !isPattern || LayersToTransform is null, source, "layers_to_transform", $"{LayersToTransform}",
            $"null, because \"target_modules\" is the pattern \"{TargetModules}\" and not a list of names");
        Require(
            !isPattern || LayersPattern is null, source, "layers_pattern", $"\"{LayersPattern}\"",
            $"null, because \"target_modules\" is the pattern \"{TargetModules}\" and not a list of names");
        bool hasPattern = LayersPattern is { Values.Count: > 0 } patterns &&
            !(patterns.IsScalar && patterns.Values[0].Length == 0);
        Require(
            !hasPattern || LayersToTransform is not null, source, "layers_pattern", $"\"{LayersPattern}\"",
            "null, or \"layers_to_transform\" beside it: a pattern alone chooses no layers");
        foreach (int index in LayersToTransform?.Values ?? [])
        {
            Require(index >= 0, source, "layers_to_transform", $"{LayersToTransform}", "layer indices of at least 0");
        }

        foreach (string pattern in LayersPattern?.Values ?? [])
        {
            _ = TargetMatcher.LayerPattern(pattern, source);
        }
    }

    private void ValidatePatterns(string source)
    {
        foreach ((string key, int rank) in RankPattern)
        {
            Require(rank >= 1, source, $"rank_pattern\".\"{key}", $"{rank}", "an integer of at least 1");
            _ = TargetMatcher.KeyPattern(key, source, "rank_pattern");
        }

        foreach ((string key, double alpha) in AlphaPattern)
        {
            Require(
                IsPositive(alpha), source, $"alpha_pattern\".\"{key}", PythonJson.FloatText(alpha), "a number above 0");
            _ = TargetMatcher.KeyPattern(key, source, "alpha_pattern");
        }
    }
}

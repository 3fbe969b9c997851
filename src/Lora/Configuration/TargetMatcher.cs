using System.Globalization;
using System.Text.RegularExpressions;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// Selects the layers of a model that a configuration adapts, by PEFT's rules: exclusion first, then the names or the
/// pattern, then the layer indices (which a name that is a whole path escapes), then rank and α by pattern.
/// </summary>
public sealed partial class TargetMatcher
{
    private readonly LoraConfig _config;
    private readonly string _source;
    private readonly NamesOrPattern _targets;
    private readonly PythonRegex? _targetRegex;
    private readonly PythonRegex? _excludeRegex;
    private readonly List<PythonRegex> _saved;
    private readonly List<PythonRegex> _layers;
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    private TargetMatcher(LoraConfig config, NamesOrPattern targets, string source)
    {
        (_config, _targets, _source) = (config, targets, source);
        _targetRegex = targets is { Pattern: string pattern, IsAllLinear: false }
            ? PythonRegex.Full(pattern, source, "target_modules")
            : null;
        _excludeRegex = config.ExcludeModules?.Pattern is { Length: > 0 } excluded
            ? PythonRegex.Full(excluded, source, "exclude_modules")
            : null;
        _saved = [.. (config.ModulesToSave ?? []).Select(name => SavedPattern(name, source))];
        IEnumerable<string> layers = config.LayersPattern?.Values ?? [];
        _layers = layers.All(p => p.Length == 0) && config.LayersPattern?.IsScalar != false
            ? [LayerPattern("[^.]*", source)]
            : [.. layers.Select(name => LayerPattern(name, source))];
        if (_layers.Count == 0)
        {
            _layers.Add(LayerPattern("[^.]*", source));
        }
    }

    private enum Verdict
    {
        Unmatched,
        Excluded,
        Targeted,
    }

    /// <summary>Selects the layers of a model.</summary>
    /// <param name="config">The configuration.</param>
    /// <param name="modules">The layers of the model that hold parameters, in the model's order.</param>
    /// <param name="modelType">The model's <c>model_type</c>, for the default of <c>target_modules</c>.</param>
    /// <param name="source">The name of the configuration for messages, usually its path.</param>
    /// <exception cref="EngineDataException">
    /// Nothing matches (the message lists the names that exist), a match is no linear layer, or the configuration is
    /// invalid.
    /// </exception>
    public static TargetMatch Match(
        LoraConfig config,
        IReadOnlyList<ModuleDescription> modules,
        string? modelType = null,
        string source = LoraConfig.FileName)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(modules);
        config.Validate(source);
        NamesOrPattern targets = config.TargetModules ?? DefaultTargets.For(modelType) ?? throw new EngineDataException(
            $"{source}: field \"target_modules\" is null and model type \"{modelType}\" has no default; expected module names. " +
            $"Modules of this model: {ModuleNames(modules)}");
        return new TargetMatcher(config, targets, source).Run(modules);
    }

    internal static PythonRegex SavedPattern(string name, string source) =>
        PythonRegex.Within("(^|.*\\.)", name, "($|\\..*)", source, "modules_to_save");

    internal static PythonRegex LayerPattern(string name, string source)
    {
        PythonRegex regex = PythonRegex.Within(".*?\\.", name, "\\.(?<layer>\\d+)\\.", source, "layers_pattern");

        // PEFT reads the index from the first group; one in the pattern would come before it.
        return regex.GroupCount == 1
            ? regex
            : throw new EngineDataException(
                $"{source}: field \"layers_pattern\" is \"{name}\"; expected a name or pattern without a capturing group (write (?:…))");
    }

    internal static PythonRegex KeyPattern(string key, string source, string field) =>
        PythonRegex.Within("(.*\\.)?(", key, ")$", source, field);

    private TargetMatch Run(IReadOnlyList<ModuleDescription> modules)
    {
        RefuseGroups(modules);
        _used.Clear();
        var targets = new List<TargetedModule>();
        var ranks = _config.RankPattern.Select(e => (e.Key, e.Value, KeyPattern(e.Key, _source, "rank_pattern"))).ToList();
        var alphas = _config.AlphaPattern.Select(e => (e.Key, e.Value, KeyPattern(e.Key, _source, "alpha_pattern"))).ToList();
        int excluded = 0;
        foreach (ModuleDescription module in modules)
        {
            Verdict verdict = Judge(module.Path, module.Kind);
            excluded += verdict == Verdict.Excluded ? 1 : 0;
            if (verdict == Verdict.Targeted)
            {
                RefuseKind(module);
                int rank = Lookup(ranks, module.Path, _config.Rank, "rank_pattern");
                double alpha = Lookup(alphas, module.Path, _config.Alpha, "alpha_pattern");
                RefuseRank(module, rank);
                targets.Add(new TargetedModule(module, rank, alpha, _config.Scale(rank, alpha)));
            }
        }

        if (targets.Count == 0)
        {
            throw NothingMatched(modules, excluded);
        }

        List<ModuleDescription> saved = Saved(modules);
        RefuseBoth(targets, saved);
        return new TargetMatch(targets, saved, Unmatched());
    }

    private Verdict Judge(string path, ModuleKind? kind)
    {
        if (IsExcluded(path))
        {
            return Verdict.Excluded;
        }

        bool matches = _targetRegex is not null ? _targetRegex.Match(path).Success
            : _targets.IsAllLinear ? kind is ModuleKind.Linear or ModuleKind.Conv1D
            : MatchesName(path);
        return matches ? Verdict.Targeted : Verdict.Unmatched;
    }

    private bool IsExcluded(string path)
    {
        if (_excludeRegex?.Match(path).Success == true)
        {
            _used.Add($"exclude_modules \"{_config.ExcludeModules!.Pattern}\"");
            return true;
        }

        foreach (string name in _config.ExcludeModules?.Names ?? [])
        {
            if (IsNameOrSuffix(path, name))
            {
                _used.Add($"exclude_modules \"{name}\"");
                return true;
            }
        }

        // A module is either trained in full or adapted, never both.
        return _saved.Exists(pattern => pattern.Match(path).Success);
    }

    private bool MatchesName(string path)
    {
        bool matches = false;
        foreach (string name in _targets.Names!)
        {
            if (path == name)
            {
                // A whole path escapes the layer indices.
                _used.Add($"target_modules \"{name}\"");
                return true;
            }
        }

        foreach (string name in _targets.Names)
        {
            if (IsNameOrSuffix(path, name))
            {
                _used.Add($"target_modules \"{name}\"");
                matches = true;
            }
        }

        return matches && (_config.LayersToTransform is not { Values.Count: > 0 } layers || IsInLayers(path, layers));
    }

    private bool IsInLayers(string path, OneOrMany<int> layers)
    {
        foreach (PythonRegex pattern in _layers)
        {
            Match match = pattern.Match(path);
            if (match.Success)
            {
                Group digits = match.Groups["layer"];
                if (!digits.Success)
                {
                    throw new EngineDataException(
                        $"{_source}: field \"layers_pattern\" is \"{_config.LayersPattern}\", which matches {path} without its layer " +
                        "index; expected a pattern that matches one segment of the path (alternatives within (?:…))");
                }

                if (!int.TryParse(digits.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out int index) ||
                    !layers.Values.Contains(index))
                {
                    return false;
                }

                _used.Add($"layers_to_transform \"{index}\"");
                return true;
            }
        }

        return false;
    }

    private static bool IsNameOrSuffix(string path, string name) =>
        path == name ||
        (path.Length > name.Length && path[^(name.Length + 1)] == '.' && path.EndsWith(name, StringComparison.Ordinal));

    private T Lookup<T>(List<(string Key, T Value, PythonRegex Regex)> entries, string path, T otherwise, string field)
    {
        foreach ((string key, T value, PythonRegex regex) in entries)
        {
            if (regex.Match(path).Success)
            {
                _used.Add($"{field} \"{key}\"");
                return value;
            }
        }

        return otherwise;
    }

    private List<ModuleDescription> Saved(IReadOnlyList<ModuleDescription> modules)
    {
        var saved = new List<ModuleDescription>();
        foreach (ModuleDescription module in modules)
        {
            bool isSaved = false;
            foreach (string name in _config.ModulesToSave ?? [])
            {
                // PEFT compares the end of the path without asking for a dot; a container stands for all it holds.
                for (int end = module.Path.Length; end > 0; end = module.Path.LastIndexOf('.', end - 1))
                {
                    if (module.Path.AsSpan(0, end).EndsWith(name))
                    {
                        _used.Add($"modules_to_save \"{name}\"");
                        isSaved = true;
                        break;
                    }
                }
            }

            if (isSaved)
            {
                saved.Add(module);
            }
        }

        return saved;
    }

    private List<string> Unmatched()
    {
        IEnumerable<string> entries =
        [
            .. (_targets.Names ?? []).Select(name => $"target_modules \"{name}\""),
            .. (_config.ExcludeModules?.Names ?? []).Select(name => $"exclude_modules \"{name}\""),
            .. _excludeRegex is null ? [] : new[] { $"exclude_modules \"{_config.ExcludeModules!.Pattern}\"" },
            .. (_config.LayersToTransform?.Values ?? []).Select(index => $"layers_to_transform \"{index}\""),
            .. _config.RankPattern.Select(entry => $"rank_pattern \"{entry.Key}\""),
            .. _config.AlphaPattern.Select(entry => $"alpha_pattern \"{entry.Key}\""),
            .. (_config.ModulesToSave ?? []).Select(name => $"modules_to_save \"{name}\""),
        ];
        return [.. entries.Where(entry => !_used.Contains(entry)).Distinct(StringComparer.Ordinal)];
    }
}

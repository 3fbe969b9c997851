namespace Engine.Lora;

/// <summary>What a tensor of an adapter file is to its module.</summary>
public enum AdapterPart
{
    /// <summary>The down-projection A, [r, in].</summary>
    LoraA,

    /// <summary>The up-projection B, [out, r].</summary>
    LoraB,

    /// <summary>DoRA's magnitude vector, [out].</summary>
    Magnitude,

    /// <summary>The base's bias, trained (<c>bias</c> or <c>modules_to_save</c>), [out].</summary>
    Bias,

    /// <summary>The base's weight, trained in full (<c>modules_to_save</c>), in the base's own shape.</summary>
    Weight,

    /// <summary>
    /// A second copy of a bias, which PEFT writes when <c>bias</c> is <c>all</c> and the module is also in
    /// <c>modules_to_save</c>; PEFT trains and loads the one named without it, so there is nothing to load here.
    /// </summary>
    Duplicate,
}

/// <summary>What a key of an adapter file stands for.</summary>
/// <param name="Path">The module's path in the base model.</param>
/// <param name="Part">Which of its tensors.</param>
public readonly record struct AdapterKey(string Path, AdapterPart Part);

/// <summary>A tensor that belongs in an adapter file.</summary>
/// <param name="Key">Its name in the file.</param>
/// <param name="Module">The module it belongs to.</param>
/// <param name="Part">Which of the module's tensors.</param>
/// <param name="Shape">Its shape in the file.</param>
public sealed record AdapterTensor(string Key, ModuleDescription Module, AdapterPart Part, IReadOnlyList<int> Shape);

using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// loralib's <c>MergedLinear</c>: one linear layer whose output is G groups of out/G features side by side (GPT-2's
/// <c>c_attn</c>: query, key, value), of which n are adapted, each with its own pair of rank r. A stacks the n
/// down-projections, [r·n, in]; B stacks the n up-projections, [n·out/G, r].
/// </summary>
/// <remarks>
/// <para>
/// With A = [A₁; …; Aₙ] and B = [B₁; …; Bₙ] the update of the j-th adapted group g is s·Bⱼ·Aⱼ, and zero in the groups
/// that are not adapted. The same update as one product is s·B′·A with A unchanged and B′ [out, r·n] zero except for
/// the blocks B′[rows of g, j·r … (j+1)·r) = Bⱼ: rank r·n. loralib's scale is α/r, so in terms of the rank r·n the
/// equal α is n·α.
/// </para>
/// <para>
/// loralib's GPT-2 example adapts query and value and leaves out key (<see cref="Gpt2QueryValue"/>); A is then
/// [2r, 768] and B [1536, r]. The zero blocks of B′ are not protected: further training fills them.
/// </para>
/// </remarks>
public sealed class LoralibMergedLinear
{
    private readonly bool[] _enabled;

    private LoralibMergedLinear(int rank, int inFeatures, int outFeatures, bool[] enabled)
    {
        (Rank, InFeatures, OutFeatures, _enabled) = (rank, inFeatures, outFeatures, enabled);
        EnabledCount = enabled.Count(on => on);
    }

    /// <summary>The groups of GPT-2's <c>c_attn</c> that loralib's example adapts: query and value.</summary>
    public static IReadOnlyList<bool> Gpt2QueryValue { get; } = [true, false, true];

    /// <summary>loralib's r: the rank of each group's update.</summary>
    public int Rank { get; }

    /// <summary>The layer's input width.</summary>
    public int InFeatures { get; }

    /// <summary>The layer's output width over all groups.</summary>
    public int OutFeatures { get; }

    /// <summary>n: how many groups are adapted.</summary>
    public int EnabledCount { get; }

    /// <summary>r·n: the rank of the equal dense pair.</summary>
    public int DenseRank => Rank * EnabledCount;

    /// <summary>Recognises a merged layer by its shapes.</summary>
    /// <param name="module">The layer of the model.</param>
    /// <param name="shapeA">A's shape, [r·n, in].</param>
    /// <param name="shapeB">B's shape, [n·out/G, r].</param>
    /// <param name="enableLora">Which of the G groups are adapted (loralib's <c>enable_lora</c>).</param>
    /// <param name="source">The file, for messages.</param>
    /// <exception cref="EngineDataException">The shapes and groups do not go together.</exception>
    public static LoralibMergedLinear Describe(
        ModuleDescription module,
        IReadOnlyList<int> shapeA,
        IReadOnlyList<int> shapeB,
        IReadOnlyList<bool> enableLora,
        string source)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(shapeA);
        ArgumentNullException.ThrowIfNull(shapeB);
        ArgumentNullException.ThrowIfNull(enableLora);
        int enabled = enableLora.Count(on => on);
        if (enabled == 0 || module.OutFeatures % enableLora.Count != 0)
        {
            throw new EngineDataException(
                $"{source}: {module.Path}: enable_lora is [{string.Join(", ", enableLora)}]; expected at least one true, and a number of " +
                $"groups that divides the layer's {module.OutFeatures} outputs");
        }

        int rows = module.OutFeatures / enableLora.Count * enabled;
        int rank = shapeB.Count == 2 ? shapeB[1] : 0;
        bool fits = rank >= 1 && shapeB[0] == rows && shapeA.Count == 2 && shapeA[1] == module.InFeatures &&
            shapeA[0] == (long)rank * enabled;
        return fits
            ? new LoralibMergedLinear(rank, module.InFeatures, module.OutFeatures, [.. enableLora])
            : throw new EngineDataException(
                $"{source}: {module.Path}: lora_A is [{string.Join(", ", shapeA)}] and lora_B [{string.Join(", ", shapeB)}]; expected " +
                $"[{enabled}·r, {module.InFeatures}] and [{rows}, r] with enable_lora [{string.Join(", ", enableLora)}]");
    }

    /// <summary>Whether the shapes are those of a plain pair, A [r, in] and B [out, r], and not of a merged layer.</summary>
    public static bool IsPlain(ModuleDescription module, IReadOnlyList<int> shapeA, IReadOnlyList<int> shapeB)
    {
        ArgumentNullException.ThrowIfNull(module);
        return shapeA is [int rank, int inFeatures] && shapeB is [int outFeatures, int rankB] && rank == rankB && rank >= 1 &&
            inFeatures == module.InFeatures && outFeatures == module.OutFeatures;
    }

    /// <summary>The α that with rank r·n gives loralib's scale α/r.</summary>
    public double DenseAlpha(double alpha) => alpha * EnabledCount;

    /// <summary>
    /// B′ of the equal dense pair; A′ is A as it is. The values are loralib's, bit for bit, and zeros.
    /// </summary>
    /// <param name="b">B, row-major [n·out/G, r].</param>
    /// <returns>B′, row-major [out, r·n].</returns>
    /// <exception cref="ArgumentException">The length of <paramref name="b"/> does not go with the shapes.</exception>
    public float[] ExpandB(ReadOnlySpan<float> b)
    {
        int groupRows = OutFeatures / _enabled.Length;
        if (b.Length != (long)groupRows * EnabledCount * Rank)
        {
            throw new ArgumentException($"has {b.Length} elements; expected {groupRows * EnabledCount} × {Rank}", nameof(b));
        }

        var dense = new float[checked(OutFeatures * DenseRank)];
        int block = 0;
        for (int group = 0; group < _enabled.Length; group++)
        {
            if (!_enabled[group])
            {
                continue;
            }

            for (int row = 0; row < groupRows; row++)
            {
                b.Slice(((block * groupRows) + row) * Rank, Rank)
                    .CopyTo(dense.AsSpan((((group * groupRows) + row) * DenseRank) + (block * Rank), Rank));
            }

            block++;
        }

        return dense;
    }
}

using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// What <see cref="Merge.Undo"/> needs besides the adapters: of each matrix the original bits of every element that subtracting
/// the same Δ would not bring back. They lie where the matrices lie.
/// </summary>
/// <remarks>
/// A correction consists of segments, one for each block of 32 rows on the CPU (<see cref="MergeSegments"/>) and for each tile
/// of 128 rows of 256 bytes on CUDA (<see cref="MergeRecords"/>): a list of elements and their places, or, where that would be
/// longer, all original elements. So it is never longer than the matrix and some bytes a segment.
/// </remarks>
public sealed class MergeCorrections : IDisposable
{
    private readonly MergeSignature[] _signatures;

    internal MergeCorrections(ReadOnlySpan<MergeTarget> targets, MergeSegments[] segments)
        : this(targets) => Segments = segments;

    internal MergeCorrections(ReadOnlySpan<MergeTarget> targets, MergeRecords records)
        : this(targets) => Records = records;

    private MergeCorrections(ReadOnlySpan<MergeTarget> targets)
    {
        _signatures = new MergeSignature[targets.Length];
        for (int i = 0; i < targets.Length; i++)
        {
            _signatures[i] = MergeSignature.Of(targets[i]);
        }
    }

    /// <summary>Number of matrices.</summary>
    public int Count => _signatures.Length;

    /// <summary>Memory taken, on the device that holds it.</summary>
    public long SizeInBytes => Records?.SizeInBytes ?? Segments.Sum(static s => s.SizeInBytes);

    /// <summary>Number of elements that subtraction alone would leave with other bits.</summary>
    public long Elements => Records?.Elements ?? Segments.Sum(static s => s.Elements);

    /// <summary>Segments of the matrices on the CPU; none on a device.</summary>
    internal MergeSegments[] Segments { get; } = [];

    /// <summary>The records on a device; null on the CPU.</summary>
    internal MergeRecords? Records { get; }

    /// <summary>Elements and bytes of each matrix's correction, in the order of the targets. On CUDA this waits for the device.</summary>
    public IReadOnlyList<(long Elements, long Bytes)> Sizes() => Records is null
        ? [.. Segments.Select(static s => (s.Elements, s.SizeInBytes))]
        : Records.Sizes(_signatures);

    /// <summary>Frees the device's memory; the corrections cannot be used any more.</summary>
    public void Dispose() => Records?.Dispose();

    /// <summary>Checks that the corrections are those of a merge into these targets.</summary>
    /// <exception cref="ArgumentException">They belong to another merge or lie elsewhere.</exception>
    internal void Require(string op, ReadOnlySpan<MergeTarget> targets)
    {
        if (targets.Length != Count)
        {
            throw new ArgumentException($"{op}: the corrections belong to a merge into {Count} matrices, not into {targets.Length}");
        }

        for (int i = 0; i < Count; i++)
        {
            if (MergeSignature.Of(targets[i]) != _signatures[i])
            {
                throw new ArgumentException(
                    $"{op}: correction {i} belongs to a merge of {_signatures[i]}, not of {MergeSignature.Of(targets[i])}");
            }
        }

        if (Count > 0 && Records?.Device != (targets[0].W.Device.Kind == DeviceKind.Cpu ? null : targets[0].W.Device))
        {
            throw new ArgumentException(
                $"{op}: the corrections are on {Records?.Device.Name ?? Device.Cpu.Name}, the matrices on {targets[0].W.Device.Name}");
        }
    }
}

/// <summary>What a merge and its undoing have to agree in.</summary>
internal readonly record struct MergeSignature(Shape Shape, DType DType, bool Transposed, int Terms)
{
    public static MergeSignature Of(in MergeTarget target) =>
        new(target.W.Shape, target.W.DType, target.Transposed, target.Terms.Count);

    public override string ToString() =>
        $"{Terms} adapters into {DType.Name()}{Shape}{(Transposed ? ", transposed" : "")}";
}

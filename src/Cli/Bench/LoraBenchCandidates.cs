using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>One way to do the work of a mode.</summary>
/// <param name="Name">In results and reports.</param>
/// <param name="Mode">Candidates of one mode do the same work.</param>
/// <param name="Make">Takes what it needs from a set of inputs and returns the call on them.</param>
internal sealed record LoraBenchCandidate(string Name, string Mode, Func<LoraBenchSet, Action> Make)
{
    /// <summary>Whether the calls may be recorded in a graph: they neither wait for the device nor keep storage.</summary>
    public bool CanBeRecorded { get; init; } = true;

    /// <summary>How often a call passes over the frozen matrix; for rates of a merge.</summary>
    public int Passes { get; init; } = 1;
}

/// <summary>
/// What <c>engine bench lora</c> times. The first candidate of a mode is what the others are compared with. A new way of
/// doing the work is one more entry; the scripts and the report take its name from the results.
/// </summary>
internal static class LoraBenchCandidates
{
    private const string Forward = "forward";
    private const string Both = "forward+backward";
    private const string Merged = "merge";

    /// <summary>Every kind.</summary>
    public static IReadOnlyList<LoraBenchKind> Kinds { get; } =
    [
        new(
            "linear",
            "rows x inputs x outputs",
            "8192x1024x1024,8192x4096x4096,8192x4096x14336,8192x14336x4096,2048x4096x4096,16x4096x4096,1x4096x4096",
            "1,8,16,64,256",
            Linear()),
        new("merge", "outputs x inputs", "4096x4096,14336x4096,8192x28672", "8,16,64", Merges()),
        new("mixed", "rows x inputs x outputs x adapters", "64x4096x4096x64,64x4096x4096x8", "16", Mixed()),
    ];

    private static IReadOnlyList<LoraBenchCandidate> Linear() =>
    [
        new("bare", Forward, set =>
        {
            (Tensor x, Tensor w, Tensor y) = (set.X, set.W, set.Y);
            return () => MatMul.Run(x, false, w, true, y);
        }),
        new("engine", Forward, set =>
        {
            (Tensor x, BorderedWeight w, Tensor y) = (set.BorderedX, set.Bordered, set.Y);
            Tensor s = set.Own(x.BorderColumns(w.Width));
            return () =>
            {
                if (!LowRank.TryDecode(x, w, [], y))
                {
                    LowRank.Down(x, w, s);
                    LowRank.Product(x, w, [], y);
                }
            };
        }),
        new("two-products", Forward, set =>
        {
            (Tensor x, Tensor w, Tensor y, Tensor a, Tensor b) = (set.X, set.W, set.Y, set.A, set.B);
            return () =>
            {
                MatMul.Run(x, false, w, true, y);
                LowRank.Forward(x, a, b, LoraBenchSet.Scale, y);
            };
        }),

        // What a frozen layer costs in training: its weights have no gradient.
        new("bare", Both, set =>
        {
            (Tensor x, Tensor w, Tensor y, Tensor dy, Tensor dx) = (set.X, set.W, set.Y, set.GradY, set.GradX);
            return () =>
            {
                MatMul.Run(x, false, w, true, y);
                MatMul.Run(dy, false, w, false, dx);
            };
        }),
        new("engine", Both, set =>
        {
            (Tensor x, BorderedWeight w, Tensor y) = (set.BorderedX, set.Bordered, set.Y);
            (Tensor dy, Tensor dx, Tensor dA, Tensor dB) = (set.BorderedGradY, set.GradX, set.GradA, set.GradB);
            Tensor s = set.Own(x.BorderColumns(w.Width));
            Tensor ds = set.Own(dy.BorderColumns(w.Width));
            return () =>
            {
                LowRank.Down(x, w, s);
                LowRank.Product(x, w, [], y);
                LowRank.GradientY(dy, w, s, [dB]);
                LowRank.ProductBackward(dy, w, dx, 0);
                LowRank.GradientX(x, w, ds, [dA]);
            };
        }),
        new("two-products", Both, set =>
        {
            (Tensor x, Tensor w, Tensor y, Tensor a, Tensor b, Tensor s) = (set.X, set.W, set.Y, set.A, set.B, set.S);
            (Tensor dy, Tensor dx, Tensor dA, Tensor dB) = (set.GradY, set.GradX, set.GradA, set.GradB);
            return () =>
            {
                MatMul.Run(x, false, w, true, y);
                LowRank.Forward(x, a, b, LoraBenchSet.Scale, y, s);
                MatMul.Run(dy, false, w, false, dx);
                LowRank.Backward(dy, x, a, b, s, LoraBenchSet.Scale, dx, dA, dB);
            };
        }),
    ];

    private static IReadOnlyList<LoraBenchCandidate> Merges() =>
    [
        new("copy", Merged, set =>
        {
            (Tensor w, Tensor copy) = (set.W, set.NewW());
            return () => w.Device.Copy(w.Pointer, copy.Pointer, w.ByteLength);
        }),
        new("merge", Merged, set =>
        {
            MergeTarget[] targets = [Target(set, set.W)];
            return () => Merge.Apply(targets);
        }),
        new("exact merge", Merged, set =>
        {
            MergeTarget[] targets = [Target(set, set.W)];
            return () => Merge.ApplyExact(targets).Dispose();
        })
        { CanBeRecorded = false },

        // A pair, in a matrix of its own, so that each call finds and leaves the matrix that its correction belongs to.
        new("merge and undo", Merged, set =>
        {
            MergeTarget[] targets = [Target(set, set.NewW())];
            MergeCorrections corrections = set.Own(Merge.ApplyExact(targets));
            Merge.Undo(targets, corrections);
            return () =>
            {
                Merge.Apply(targets);
                Merge.Undo(targets, corrections);
            };
        })
        { CanBeRecorded = false, Passes = 2 },
    ];

    private static MergeTarget Target(LoraBenchSet set, Tensor w) => new(w, [new MergeTerm(set.A, set.B, LoraBenchSet.Scale)], Transposed: false);

    private static IReadOnlyList<LoraBenchCandidate> Mixed() =>
    [
        new("bare", Forward, set =>
        {
            (Tensor x, Tensor w, Tensor y) = (set.X, set.W, set.Y);
            return () => MatMul.Run(x, false, w, true, y);
        }),
        new("engine", Forward, set =>
        {
            (Tensor x, Tensor w, Tensor y, AdapterTable table, AdapterRows rows) = (set.X, set.W, set.Y, set.Table, set.RowAdapters);
            return () =>
            {
                MatMul.Run(x, false, w, true, y);
                GroupedLowRank.Forward(x, rows, table, y);
            };
        }),
    ];
}

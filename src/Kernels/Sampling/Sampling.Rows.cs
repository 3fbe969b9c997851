using Engine.Tensors;

namespace Engine.Kernels;

/// <content>Selection for all rows of a batch where the logits are.</content>
public static unsafe partial class Sampling
{
    /// <summary>The uniform number in [0, 1) that <see cref="Select"/> draws with, for <see cref="SelectRows"/>.</summary>
    public static double Uniform(ulong seed, ulong row, ulong step) => RandomNumbers.Unit(seed, s_stream + row, step);

    /// <summary>
    /// The next token of each row, on the logits' device; the same choice as <see cref="Select"/>, up to the rounding of the
    /// exponentials: a draw within about 10⁻⁶ of the boundary between two tokens may fall on its other side, and
    /// so may a token at the boundary of top-p.
    /// </summary>
    /// <param name="logits">[B, V], any float dtype (f32, bf16 or f16 on CUDA).</param>
    /// <param name="ids">Result [B], i32; −1 for a row that holds NaN or no value above −∞ (see <see cref="RequireIds"/>).</param>
    /// <param name="options">The filters, the same for all rows.</param>
    /// <param name="seen">[B, S], i32: ids of the prompt and of what was generated; null without a repetition penalty.</param>
    /// <param name="seenCounts">[B], i32: how many of each row of <paramref name="seen"/> there are; given with it.</param>
    /// <param name="draws">[B], f64: a number from <see cref="Uniform"/> for each row; may be null when the temperature is 0.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of range; on the CPU also a seen id (CUDA passes over it).</exception>
    public static void SelectRows(
        Tensor logits, Tensor ids, in SamplingOptions options, Tensor? seen = null, Tensor? seenCounts = null, Tensor? draws = null)
    {
        const string Op = "Sampling.SelectRows";
        options.Validate();
        Check.Float(Op, logits);
        Check.Rank(Op, logits, 2);
        int rows = logits.Shape[0];
        if (logits.Shape[1] == 0)
        {
            Check.Throw(Op, nameof(logits), "has to have columns", logits);
        }

        ForRows(ids, DType.I32, nameof(ids));
        if (seen is not null)
        {
            Check.Type(Op, seen, DType.I32);
            Check.Rank(Op, seen, 2);
            Check.Shaped(Op, seen, [rows, seen.Shape[1]]);
            Check.SameDevice(Op, seen, logits);
            ForRows(seenCounts, DType.I32, nameof(seenCounts));
        }

        if (options.Temperature > 0)
        {
            ForRows(draws, DType.F64, nameof(draws));
        }

        switch (logits.Device.Kind)
        {
            case DeviceKind.Cpu:
                SelectRowsOnCpu(logits, ids, in options, seen, seenCounts, draws);
                break;
            case DeviceKind.Cuda:
                SamplingCuda.SelectRows(logits, ids, in options, seen, seenCounts, draws);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, logits.Device);
        }

        void ForRows(Tensor? tensor, DType dtype, string name)
        {
            ArgumentNullException.ThrowIfNull(tensor, name);
            Check.Type(Op, tensor, dtype, name);
            Check.Count(Op, tensor, rows, name);
            Check.SameDevice(Op, tensor, logits, name);
        }
    }

    /// <summary>Checks what <see cref="SelectRows"/> gave, on the host.</summary>
    /// <exception cref="EngineDataException">A row's logits held NaN, or −∞ only.</exception>
    public static void RequireIds(ReadOnlySpan<int> ids)
    {
        if (ids.ContainsAnyInRange(int.MinValue, -1))
        {
            throw Damaged();
        }
    }

    private static void SelectRowsOnCpu(
        Tensor logits, Tensor ids, in SamplingOptions options, Tensor? seen, Tensor? seenCounts, Tensor? draws)
    {
        int columns = logits.Shape[1];
        Span<int> results = ids.Span<int>();
        using ScratchBuffer<float> buffer = Scratch.Rent<float>(columns);
        for (int row = 0; row < results.Length; row++)
        {
            FloatConvert.Load(
                logits.DType, (byte*)logits.Pointer + ((long)row * columns * logits.DType.Size()), columns, buffer.Pointer);
            ReadOnlySpan<int> seenIds = seen is null
                ? []
                : seen.Span<int>().Slice(row * seen.Shape[1], Math.Clamp(seenCounts!.Span<int>()[row], 0, seen.Shape[1]));
            double u = options.Temperature == 0 ? 0 : draws!.Span<double>()[row];
            results[row] = Choose(new ReadOnlySpan<float>(buffer.Pointer, columns), seenIds, in options, u);
        }
    }
}

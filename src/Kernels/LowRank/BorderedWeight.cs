using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One linear's place in a <see cref="BorderedWeight"/>.</summary>
/// <param name="Begin">Its first output.</param>
/// <param name="Outputs">Its outputs.</param>
/// <param name="At">Its first column of the border.</param>
/// <param name="Width">
/// Its columns of the border: the rank rounded up to 8, and what is left of the border for the last one; 0 without an adapter.
/// </param>
/// <param name="Rank">r.</param>
/// <param name="Scale">α/r or α/√r.</param>
public readonly record struct BorderSlot(int Begin, int Outputs, int At, int Width, int Rank, float Scale);

/// <summary>
/// The frozen weights of one linear, or of several that share an input, in one buffer with room for their adapters, so that
/// frozen product and up-projection are one product, forward and backward:
/// <code>
///               K columns   border                        transposed:    N columns   border
/// N rows      [    W       |  B   ]                        K rows       [    W       | Aᵀ ]
/// R rows      [    A       |  0   ]                        R rows       [    Bᵀ      | 0  ]
/// </code>
/// With S = scale·X·Aᵀ in the columns after X and dS = scale·dY·B in those after dY: Y = [X S]·[W B]ᵀ and dX = [dY dS]·[W; A].
/// A linear's columns of the border hold its own B only, zeros elsewhere, so stacked linears do not mix.
/// </summary>
public sealed class BorderedWeight : IDisposable
{
    /// <summary>Columns of the border come in multiples of 64: rows stay aligned to 128 bytes, and a rank up to 64 costs the product one step.</summary>
    public const int BorderUnit = 64;

    private const int WidthUnit = 8;
    private readonly Tensor _whole;
    private readonly Tensor? _down;
    private readonly Tensor? _up;
    private readonly BorderSlot[] _slots;

    private BorderedWeight(Tensor whole, Tensor? down, Tensor? up, int inputs, int capacity, BorderSlot[] slots, bool transposed)
    {
        (_whole, _down, _up, _slots) = (whole, down, up, slots);
        (Inputs, Width, IsTransposed) = (inputs, capacity, transposed);
        Outputs = slots[^1].Begin + slots[^1].Outputs;
    }

    /// <summary>K.</summary>
    public int Inputs { get; }

    /// <summary>N, of all linears.</summary>
    public int Outputs { get; }

    /// <summary>R: the columns of the border that products take in, a multiple of 8.</summary>
    public int Width { get; }

    /// <summary>The border that inputs and gradients of outputs need (see <see cref="Tensor.Border"/>).</summary>
    public int Border => RoundUp(Width, BorderUnit);

    /// <summary>Whether weights are stored [K, N].</summary>
    public bool IsTransposed { get; }

    /// <summary>Element type of weights and border.</summary>
    public DType DType => _whole.DType;

    /// <summary>Where it lies.</summary>
    public Device Device => _whole.Device;

    /// <summary>The linears' places, in order.</summary>
    public IReadOnlyList<BorderSlot> Slots => _slots;

    /// <summary>The scale of all linears that have an adapter, 0 where none has; null where they differ.</summary>
    internal float? CommonScale
    {
        get
        {
            float scale = Array.Find(_slots, static slot => slot.Width > 0).Scale;
            return Array.TrueForAll(_slots, slot => slot.Width == 0 || slot.Scale == scale) ? scale : null;
        }
    }

    /// <summary>Columns of a border for linears of these ranks.</summary>
    public static int WidthOf(IEnumerable<int> ranks) => ranks.Sum(static rank => RoundUp(rank, WidthUnit));

    /// <summary>Copies weights into a new buffer whose border has room for adapters of these ranks. The border is zero.</summary>
    /// <param name="weights">One [N, K] a linear, or one [K, N] when <paramref name="transposed"/>; any row stride.</param>
    /// <param name="ranks">The rank of each linear's adapter, 0 for none.</param>
    /// <param name="transposed">Whether the weight is stored [inputs, outputs]; then there is one.</param>
    /// <exception cref="ArgumentException">Weights do not go together.</exception>
    public static BorderedWeight Create(IReadOnlyList<Tensor> weights, IReadOnlyList<int> ranks, bool transposed)
    {
        const string Op = "BorderedWeight.Create";
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(ranks);
        if (weights.Count == 0 || weights.Count != ranks.Count || (transposed && weights.Count > 1))
        {
            throw new ArgumentException($"{Op}: {weights.Count} weights and {ranks.Count} ranks{(transposed ? ", transposed" : "")}", nameof(weights));
        }

        Tensor first = weights[0];
        int inputs = first.Shape[transposed ? 0 : 1];
        var slots = new BorderSlot[weights.Count];
        int outputs = 0;
        int width = 0;
        for (int i = 0; i < slots.Length; i++)
        {
            Check.FloatStrided(Op, weights[i]);
            Check.Rank(Op, weights[i], 2);
            Check.SameDevice(Op, weights[i], first);
            if (weights[i].DType != first.DType || weights[i].Shape[transposed ? 0 : 1] != inputs)
            {
                Check.Throw(Op, nameof(weights), $"has to have {inputs} inputs and dtype {first.DType.Name()}", weights[i]);
            }

            int own = weights[i].Shape[transposed ? 1 : 0];
            slots[i] = new BorderSlot(outputs, own, width, RoundUp(ranks[i], WidthUnit), ranks[i], 0);
            outputs += own;
            width += slots[i].Width;
        }

        int border = RoundUp(width, BorderUnit);
        (int rows, int columns) = transposed ? (inputs, outputs) : (outputs, inputs);
        using var made = new Tentative();
        Tensor whole = made.Add(Tensor.Zeros([rows + width, columns + border], first.DType, first.Device));

        // The kernels read A by rows and B by columns of the rank: where the border holds them the other way round they lie beside it too.
        Tensor? down = transposed ? made.Add(Tensor.Zeros([width, inputs], first.DType, first.Device)) : null;
        Tensor? up = transposed ? made.Add(Tensor.Zeros([outputs, width], first.DType, first.Device)) : null;
        var result = new BorderedWeight(whole, down, up, inputs, width, slots, transposed);
        for (int i = 0; i < slots.Length; i++)
        {
            using Tensor place = result.Weight(i);
            Copy.Run(weights[i], place);
        }

        made.Keep();
        return result;
    }

    /// <summary>Whether a tensor is the weight of a linear in this buffer.</summary>
    public bool Holds(Tensor weight, int linear)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using Tensor own = Weight(linear);
        return ReferenceEquals(own.Storage, weight.Storage) && own.Offset == weight.Offset && own.Shape == weight.Shape;
    }

    /// <summary>Gives the border to other adapters; it is cleared when their ranks are others.</summary>
    /// <returns>False when they do not fit, or leave more of the border empty than one step of a product; nothing has changed then.</returns>
    public bool TryAssign(ReadOnlySpan<int> ranks, ReadOnlySpan<float> scales)
    {
        int at = 0;
        bool same = true;
        for (int i = 0; i < _slots.Length; i++)
        {
            at += RoundUp(ranks[i], WidthUnit);
            same &= ranks[i] == _slots[i].Rank;
        }

        if (at > Width || RoundUp(at, BorderUnit) != Border)
        {
            return false;
        }

        // Before anything changes: slots that have new ranks over a border that was not cleared would pass for cleared ones.
        (int rows, int columns) = IsTransposed ? (Inputs, Outputs) : (Outputs, Inputs);
        using Tensor? zeros = same ? null : Tensor.Zeros([rows, Border], DType, Device);
        at = 0;
        for (int i = 0; i < _slots.Length; i++)
        {
            _slots[i] = _slots[i] with { At = at, Width = RoundUp(ranks[i], WidthUnit), Rank = ranks[i], Scale = scales[i] };
            at += _slots[i].Width;
        }

        // Products take in the whole width: what no rank needs is the last adapter's, whose zeros there make zeros of S and dS.
        int last = Array.FindLastIndex(_slots, static slot => slot.Width > 0);
        if (last >= 0)
        {
            _slots[last] = _slots[last] with { Width = Width - _slots[last].At };
        }

        if (zeros is null)
        {
            return true;
        }

        using Tensor below = _whole.Slice(0, rows, Width);
        below.Clear();
        using Tensor beside = View(0, rows, columns, Border);
        Copy.Run(zeros, beside);
        _down?.Clear();
        _up?.Clear();
        return true;
    }

    /// <summary>A share of a linear's weight: [N, K], or [K, N] when transposed, with a gap between its rows.</summary>
    public Tensor Weight(int linear)
    {
        BorderSlot slot = _slots[linear];
        return IsTransposed ? View(0, Inputs, slot.Begin, slot.Outputs) : View(slot.Begin, slot.Outputs, 0, Inputs);
    }

    /// <summary>The places that have to hold copies of a linear's A [rank, K]; the caller disposes them.</summary>
    public IReadOnlyList<Tensor> DownPlaces(int linear)
    {
        BorderSlot slot = _slots[linear];
        if (!IsTransposed)
        {
            return [View(Outputs + slot.At, slot.Rank, 0, Inputs)];
        }

        using Tensor columns = View(0, Inputs, Outputs + slot.At, slot.Rank);
        return [columns.Transpose(0, 1), _down!.Slice(0, slot.At, slot.Rank)];
    }

    /// <summary>The places that have to hold copies of a linear's B [N, rank]; the caller disposes them.</summary>
    public IReadOnlyList<Tensor> UpPlaces(int linear)
    {
        BorderSlot slot = _slots[linear];
        if (!IsTransposed)
        {
            return [View(slot.Begin, slot.Outputs, Inputs + slot.At, slot.Rank)];
        }

        using Tensor rows = View(Inputs + slot.At, slot.Rank, slot.Begin, slot.Outputs);
        using Tensor columns = _up!.Slice(0, slot.Begin, slot.Outputs);
        return [rows.Transpose(0, 1), columns.Slice(1, slot.At, slot.Rank)];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _whole.Dispose();
        _down?.Dispose();
        _up?.Dispose();
    }

    /// <summary>A of all linears [R, K], rows without an adapter's rank zero.</summary>
    internal Tensor Down() => _down?.Share() ?? View(Outputs, Width, 0, Inputs);

    /// <summary>B of all linears [N, R], zero outside each linear's own columns.</summary>
    internal Tensor Up() => _up?.Share() ?? View(0, Outputs, Inputs, Width);

    /// <summary>The second operand of the forward product for a linear, or for all: [n, K + R], or [K + R, n] when transposed.</summary>
    internal Tensor ForwardOperand(int begin, int outputs) =>
        IsTransposed ? View(0, Inputs + Width, begin, outputs) : View(begin, outputs, 0, Inputs + Width);

    /// <summary>That of the backward product: [N + R, K], or [K, N + R] when transposed; without the border [N, K] or [K, N].</summary>
    internal Tensor BackwardOperand(bool withBorder)
    {
        int extent = Outputs + (withBorder ? Width : 0);
        return IsTransposed ? View(0, Inputs, 0, extent) : View(0, extent, 0, Inputs);
    }

    private static int RoundUp(int value, int unit) => (value + unit - 1) / unit * unit;

    private Tensor View(int row, int rows, int column, int columns)
    {
        using Tensor part = _whole.Slice(0, row, rows);
        return part.Slice(1, column, columns);
    }
}

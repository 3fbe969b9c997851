using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The low-rank path for a batch whose rows use different adapters: y[i] += s·(x[i]·Aᵀ)·Bᵀ with the A, B and s of row i's
/// adapter, and its gradients. Rows without an adapter keep y, and a row's result does not depend on the others' adapters.
/// One launch forward (two for many rows of a batch's row), three backward, whatever the number of adapters; nothing crosses from the host. Source: Chen et al.,
/// Punica: Multi-Tenant LoRA Serving (MLSys 2024), §4: the segmented products.
/// </summary>
/// <remarks>
/// As in <see cref="LowRank"/>, for the rows of each adapter: S = s·x·Aᵀ, dS = s·dy·B, dx += dS·A, dA += dSᵀ·x, dB += dyᵀ·S.
/// Sums run in fp32 (fp64 for f64); with 16-bit activations a GPU rounds A, B and S to their dtype for its tensor cores.
/// A matrix of rank 2 may have a gap between its rows. The batch's rows have R ∕ <see cref="AdapterRows.Count"/> rows of
/// activations each.
/// </remarks>
public static class GroupedLowRank
{
    /// <summary>y += s·(x·Aᵀ)·Bᵀ, by rows.</summary>
    /// <param name="x">Input [R, K].</param>
    /// <param name="rows">Each row's adapter.</param>
    /// <param name="table">The adapters.</param>
    /// <param name="y">Added to, [R, N]; on a GPU of x's dtype.</param>
    /// <param name="saved">S for the backward, from <see cref="CreateSaved"/>; or null.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or indices do not fit.</exception>
    /// <exception cref="NotSupportedException">The device does not compute in these dtypes.</exception>
    public static void Forward(Tensor x, AdapterRows rows, AdapterTable table, Tensor y, Tensor? saved = null)
    {
        const string Op = "GroupedLowRank.Forward";
        RowMatrix input = Input(Op, x, rows, table);
        RowMatrix output = RowMatrix.Of(Op, y, x).Sized(Op, y, input.Rows, table.Outputs);
        CheckSaved(Op, saved, x, rows, table);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                GroupedLowRankCpu.Forward(input, rows, table, output, saved is null ? default : RowMatrix.Of(Op, saved, x));
                break;
            case DeviceKind.Cuda:
                GroupedLowRankCuda.Forward(input, rows, table, output, saved, x.Device);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>Room for what the backward needs of the forward; its layout is the device's own.</summary>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static Tensor CreateSaved(Tensor x, AdapterRows rows, AdapterTable table)
    {
        _ = Input("GroupedLowRank.CreateSaved", x, rows, table);
        return Tensor.Empty(SavedShape(x, rows, table), Check.Statistics(x.DType), x.Device);
    }

    /// <summary>The gradients of <see cref="Forward"/>; each is added to, and none is computed where it is null.</summary>
    /// <param name="dy">Gradient of y, [R, N]; on a GPU of x's dtype.</param>
    /// <param name="x">As in the forward.</param>
    /// <param name="rows">As in the forward.</param>
    /// <param name="table">As in the forward, with copies of the same A and B.</param>
    /// <param name="saved">What the forward saved.</param>
    /// <param name="dx">[R, K]; on a GPU of x's dtype.</param>
    /// <param name="gradients">
    /// For each of the table's adapters, no tensor twice; or empty. While work is recorded the same as before.
    /// </param>
    /// <param name="setX">Whether <paramref name="dx"/>, without gaps then, is set: what it held does not matter.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or indices do not fit.</exception>
    /// <exception cref="NotSupportedException">The device does not compute in these dtypes.</exception>
    public static void Backward(
        Tensor dy,
        Tensor x,
        AdapterRows rows,
        AdapterTable table,
        Tensor saved,
        Tensor? dx,
        ReadOnlySpan<GroupedGradient> gradients,
        bool setX = false)
    {
        const string Op = "GroupedLowRank.Backward";
        ArgumentNullException.ThrowIfNull(saved);
        RowMatrix input = Input(Op, x, rows, table);
        RowMatrix gradient = RowMatrix.Of(Op, dy, x).Sized(Op, dy, input.Rows, table.Outputs);
        RowMatrix dInput = dx is null ? default : RowMatrix.Of(Op, dx, x).Sized(Op, dx, input.Rows, input.Columns);
        CheckSaved(Op, saved, x, rows, table);
        CheckGradients(Op, gradients, table);
        if (setX)
        {
            dx?.Clear();
        }

        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                GroupedLowRankCpu.Backward(gradient, input, rows, table, RowMatrix.Of(Op, saved, x), dInput, gradients);
                break;
            case DeviceKind.Cuda:
                GroupedLowRankCuda.Backward(gradient, input, rows, table, saved, dInput, gradients, x.Device);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static RowMatrix Input(string op, Tensor x, AdapterRows rows, AdapterTable table)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(table);
        RowMatrix input = RowMatrix.Of(op, x, x);
        if (x.DType != table.Activations)
        {
            Check.Throw(op, nameof(x), $"has to be {table.Activations.Name()} as the table of adapters", x);
        }

        if (input.Columns != table.Inputs)
        {
            Check.Throw(op, nameof(x), $"has to have {table.Inputs} columns", x);
        }

        if (rows.Count == 0 ? input.Rows != 0 : input.Rows % rows.Count != 0)
        {
            Check.Throw(op, nameof(x), $"has to have as many rows for each of {rows.Count} rows of the batch", x);
        }

        Check.SameDevice(op, rows.Indices, x);
        if (x.Device.Kind != table.Device.Kind || (x.Device.Kind != DeviceKind.Cpu && x.Device != table.Device))
        {
            Check.Throw(op, nameof(x), $"has to be on {table.Device.Name} as the table of adapters", x);
        }

        return input;
    }

    private static Shape SavedShape(Tensor x, AdapterRows rows, AdapterTable table)
    {
        int count = checked((int)Check.Rows(x));
        return x.Device.Kind == DeviceKind.Cuda ? GroupedLowRankCuda.SumsShape(count, rows, table, table.Inputs) : [count, table.Rank];
    }

    private static void CheckSaved(string op, Tensor? saved, Tensor x, AdapterRows rows, AdapterTable table)
    {
        if (saved is not null)
        {
            Check.Type(op, saved, Check.Statistics(x.DType));
            Check.Shaped(op, saved, SavedShape(x, rows, table));
            Check.SameDevice(op, saved, x);
        }
    }

    private static void CheckGradients(string op, ReadOnlySpan<GroupedGradient> gradients, AdapterTable table)
    {
        if (!gradients.IsEmpty && gradients.Length != table.Count)
        {
            throw new ArgumentException($"{op}: {gradients.Length} gradients for {table.Count} adapters", nameof(gradients));
        }

        for (int i = 0; i < gradients.Length; i++)
        {
            CheckGradient(op, gradients[i].A, table[i]?.A);
            CheckGradient(op, gradients[i].B, table[i]?.B);
        }
    }

    private static void CheckGradient(string op, Tensor? gradient, Tensor? value)
    {
        if (gradient is null)
        {
            return;
        }

        if (value is null)
        {
            Check.Throw(op, nameof(gradient), "has to be null for an adapter without a layer here", gradient);
        }

        Check.Float(op, gradient);
        Check.Shaped(op, gradient, value.Shape);
        Check.SameDevice(op, gradient, value);
    }
}

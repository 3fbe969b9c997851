using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Rows of a table by token id, y[n] = table[ids[n]], and the gradient of the table.</summary>
/// <remarks>
/// An id below 0 stands for no row: its y is 0 and it adds nothing to the gradient. An id of V or more is an error; a GPU
/// does not report it, which would mean waiting for it, but gives a y of NaN and adds nothing. Callers check ids on the host.
/// </remarks>
public static class Embedding
{
    /// <summary>y[n] = table[ids[n]]; 0 for an id below 0.</summary>
    /// <param name="ids">I32, N elements of any shape, contiguous, below V.</param>
    /// <param name="table">[V, D], contiguous, f32, f64, bf16 or f16.</param>
    /// <param name="y">N·D elements, contiguous, last extent D, the table's dtype.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">On the CPU: an id is V or more.</exception>
    public static void Forward(Tensor ids, Tensor table, Tensor y)
    {
        const string Op = "Embedding.Forward";
        CheckArguments(Op, ids, table, y, nameof(table), nameof(y));
        switch (table.Device.Kind)
        {
            case DeviceKind.Cpu:
                EmbeddingCpu.Forward(ids, table, y);
                break;
            case DeviceKind.Cuda:
                EmbeddingCuda.Forward(ids, table, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, table.Device);
        }
    }

    /// <summary>
    /// dTable[v] += Σ dy[n] over all n with ids[n] = v, added in the order of n in the compute dtype and rounded once. A GPU
    /// adds more than 64 rows of one id as sums of 64 of them, in the same order.
    /// </summary>
    /// <param name="ids">I32, N elements of any shape, contiguous, below V.</param>
    /// <param name="dy">N·D elements, contiguous, last extent D, any float dtype.</param>
    /// <param name="dTable">[V, D], contiguous, any float dtype.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">On the CPU: an id is V or more.</exception>
    public static void Backward(Tensor ids, Tensor dy, Tensor dTable)
    {
        const string Op = "Embedding.Backward";
        CheckArguments(Op, ids, dTable, dy, nameof(dTable), nameof(dy));
        switch (dTable.Device.Kind)
        {
            case DeviceKind.Cpu:
                EmbeddingCpu.Backward(ids, dy, dTable);
                break;
            case DeviceKind.Cuda:
                EmbeddingCuda.Backward(ids, dy, dTable);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, dTable.Device);
        }
    }

    private static void CheckArguments(string op, Tensor ids, Tensor table, Tensor rows, string tableName, string rowsName)
    {
        Check.Type(op, ids, DType.I32);
        Check.Float(op, table, tableName);
        Check.Rank(op, table, 2, tableName);
        Check.Float(op, rows, rowsName);
        if (rows.Shape.Rank == 0 || rows.Shape[^1] != table.Shape[1] || Check.Rows(rows) != ids.Elements)
        {
            Check.Throw(op, rowsName, $"has to have {ids.Elements} rows of {table.Shape[1]} elements", rows);
        }

        if (rowsName == "y" && rows.DType != table.DType)
        {
            Check.Throw(op, rowsName, $"has to be {table.DType.Name()} like {tableName}", rows);
        }

        Check.SameDevice(op, ids, table, nameof(ids), tableName);
        Check.SameDevice(op, rows, table, rowsName, tableName);
    }
}

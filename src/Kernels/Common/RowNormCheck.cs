using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Argument checks of RMSNorm and LayerNorm, of which only the latter has a bias and a mean.</summary>
internal static class RowNormCheck
{
    /// <summary>All but the layout of <paramref name="x"/>.</summary>
    public static void Forward(string op, Tensor x, Tensor w, Tensor? b, Tensor y, Tensor? mean, Tensor? rstd)
    {
        Check.ForColumns(op, w, x, nameof(w));
        Check.Like(op, y, x);
        Check.Rows(op, y);
        Optional(op, b, x, nameof(b));
        Check.ForRows(op, mean, x, nameof(mean));
        Check.ForRows(op, rstd, x, nameof(rstd));
    }

    /// <summary>All but the layout of <paramref name="x"/>; gradients that are not asked for are null.</summary>
    public static void Backward(
        string op, Tensor dy, Tensor x, Tensor w, Tensor? mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db)
    {
        Check.Float(op, x);
        Check.Like(op, dy, x);
        Check.Contiguous(op, dy);
        Check.ForColumns(op, w, x, nameof(w));
        ArgumentNullException.ThrowIfNull(rstd);
        Check.ForRows(op, mean, x, nameof(mean));
        Check.ForRows(op, rstd, x, nameof(rstd));
        if (dx is not null)
        {
            Check.Like(op, dx, x);
            Check.Rows(op, dx);
        }

        Optional(op, dw, x, nameof(dw));
        Optional(op, db, x, nameof(db));
    }

    private static void Optional(string op, Tensor? columns, Tensor x, string name)
    {
        if (columns is not null)
        {
            Check.ForColumns(op, columns, x, name);
        }
    }
}

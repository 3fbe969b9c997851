using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Argument checks of the ops. Each throws <see cref="ArgumentException"/> naming the op, the tensor, what was expected and
/// what was found; the message is built only after the test failed.
/// </summary>
internal static class Check
{
    /// <summary>A float tensor (f32, f64, bf16, f16) without gaps.</summary>
    public static void Float(string op, Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        FloatStrided(op, tensor, name);
        Contiguous(op, tensor, name);
    }

    /// <summary>A float tensor whose strides are free.</summary>
    public static void FloatStrided(string op, Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (!tensor.DType.IsFloat())
        {
            Throw(op, name, "has to be f32, f64, bf16 or f16", tensor);
        }
    }

    /// <summary>A tensor of exactly this dtype without gaps.</summary>
    public static void Type(string op, Tensor tensor, DType dtype, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != dtype)
        {
            Throw(op, name, $"has to be {dtype.Name()}", tensor);
        }

        Contiguous(op, tensor, name);
    }

    /// <summary>Elements in row-major order without gaps.</summary>
    public static void Contiguous(string op, Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (!tensor.IsContiguous)
        {
            Throw(op, name, "has to be contiguous", tensor);
        }
    }

    /// <summary>Elements without gaps, or a matrix whose rows may have gaps between them but do not overlap.</summary>
    public static void Rows(string op, Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        bool matrix = tensor.Shape.Rank == 2 && (tensor.Shape[1] <= 1 || tensor.Strides[1] == 1) &&
            (tensor.Shape[0] <= 1 || tensor.Strides[0] >= tensor.Shape[1]);
        if (!matrix)
        {
            Contiguous(op, tensor, name);
        }
    }

    /// <summary>Exactly this many dimensions.</summary>
    public static void Rank(string op, Tensor tensor, int rank, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Shape.Rank != rank)
        {
            Throw(op, name, $"has to have {rank} dimensions", tensor);
        }
    }

    /// <summary>Exactly this shape.</summary>
    public static void Shaped(string op, Tensor tensor, Shape shape, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Shape != shape)
        {
            Throw(op, name, $"has to have shape {shape}", tensor);
        }
    }

    /// <summary>Exactly this many elements, whatever the shape.</summary>
    public static void Count(string op, Tensor tensor, long elements, [CallerArgumentExpression(nameof(tensor))] string name = "")
    {
        if (tensor.Elements != elements)
        {
            Throw(op, name, $"has to have {elements} elements", tensor);
        }
    }

    /// <summary>The same dtype, shape and device as another tensor.</summary>
    public static void Like(
        string op,
        Tensor tensor,
        Tensor model,
        [CallerArgumentExpression(nameof(tensor))] string name = "",
        [CallerArgumentExpression(nameof(model))] string modelName = "")
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != model.DType || tensor.Shape != model.Shape)
        {
            Throw(op, name, $"has to be like {modelName}, {model.DType.Name()}{model.Shape}", tensor);
        }

        SameDevice(op, tensor, model, name, modelName);
    }

    /// <summary>The same device as another tensor.</summary>
    public static void SameDevice(
        string op,
        Tensor tensor,
        Tensor model,
        [CallerArgumentExpression(nameof(tensor))] string name = "",
        [CallerArgumentExpression(nameof(model))] string modelName = "")
    {
        // Kind and not identity: a test's own CpuDevice and the shared one are the same processor.
        if (tensor.Device.Kind != model.Device.Kind || (tensor.Device.Kind != DeviceKind.Cpu && tensor.Device != model.Device))
        {
            Throw(op, name, $"has to be on {model.Device.Name} like {modelName}", tensor);
        }
    }

    /// <summary>A vector of one number for each column of <paramref name="x"/>.</summary>
    public static void ForColumns(string op, Tensor w, Tensor x, string name)
    {
        Float(op, w, name);
        Count(op, w, Columns(x), name);
        SameDevice(op, w, x, name);
    }

    /// <summary>An optional vector of one number for each row of <paramref name="x"/>.</summary>
    public static void ForRows(string op, Tensor? statistic, Tensor x, string name)
    {
        if (statistic is not null)
        {
            Type(op, statistic, Statistics(x.DType), name);
            Count(op, statistic, Rows(x), name);
            SameDevice(op, statistic, x, name);
        }
    }

    /// <summary>The dtype of row statistics (mean, rstd, losses): f64 for f64 tensors, else f32. Also the compute dtype.</summary>
    public static DType Statistics(DType dtype) => dtype == DType.F64 ? DType.F64 : DType.F32;

    /// <summary>Extent of the last dimension; 1 for a scalar.</summary>
    public static int Columns(Tensor tensor) => tensor.Shape.Rank == 0 ? 1 : tensor.Shape[^1];

    /// <summary>Elements between rows of what <see cref="Rows(string, Tensor, string)"/> lets pass.</summary>
    public static long RowStride(Tensor tensor) => tensor.Shape.Rank == 2 && tensor.Shape[0] > 1 ? tensor.Strides[0] : Columns(tensor);

    /// <summary>Product of all extents but the last.</summary>
    public static long Rows(Tensor tensor)
    {
        long rows = 1;
        for (int i = 0; i < tensor.Shape.Rank - 1; i++)
        {
            rows *= tensor.Shape[i];
        }

        return rows;
    }

    [DoesNotReturn]
    public static void Throw(string op, string name, string expected, Tensor found) =>
        throw new ArgumentException(
            $"{op}: {name} {expected}; it is {found}{(found.IsContiguous ? string.Empty : " with gaps or permuted dimensions")}",
            name);
}

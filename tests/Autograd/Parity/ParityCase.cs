using Engine.Kernels;
using Engine.Kernels.Tests;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Parity;

/// <summary>One case of the fixtures, built from our ops. PyTorch's [B,H,T,D] is our [B,T,H,D]; its losses are scalars.</summary>
internal sealed class ParityCase(ParityFixtures fixtures, string name, DType dtype) : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    /// <summary>Inputs whose gradient the fixtures have, by their names.</summary>
    public Dictionary<string, Variable> Leaves { get; } = [];

    public Variable Forward(Tape tape)
    {
        string op = name.Split('_')[0];
        return op switch
        {
            "layernorm" => tape.LayerNorm(Rows("x"), Leaf("weight"), Leaf("bias"), Number("eps")),
            "rmsnorm" => tape.RmsNorm(Rows("x"), Leaf("weight"), Number("eps")),
            "rope" => Rope(tape),
            "gelu" => tape.Gelu(Leaf("x"), name == "gelu_tanh"),
            "silu" => tape.Silu(Leaf("x")),
            "swiglu" => SwiGlu(tape),
            "cross" => CrossEntropy(tape),
            "attention" => Attention(tape),
            "linear" => tape.Linear(Rows("x"), Leaf("weight"), Leaf("bias")),
            "low" => AdaptedLinear(tape, Number("scale")),
            "dora" => Dora(tape, Number("scale")),
            "embedding" => tape.Embedding(Integers("ids"), Leaf("weight")),
            _ => throw new NotSupportedException(name),
        };
    }

    /// <summary>The gradient of the result.</summary>
    public Tensor Upstream() => IsHeads ? Heads("dy") : Tensor(name + ".dy", Flat(fixtures.Shape(name + ".dy")));

    /// <summary>
    /// The op's result in the order of the fixtures. Attention's rows at padding, undefined in PyTorch and 0 in ours, are
    /// checked here and then given PyTorch's values.
    /// </summary>
    public double[] Output(Tensor tensor)
    {
        double[] result = Result(tensor);
        if (!name.StartsWith("attention", StringComparison.Ordinal))
        {
            return result;
        }

        int[] shape = fixtures.Shape(name + ".q");
        double[] valid = fixtures[name + ".valid"];
        for (int i = 0; i < result.Length; i++)
        {
            int row = i / shape[3];
            if (valid[(row / (shape[1] * shape[2]) * shape[2]) + (row % shape[2])] == 0)
            {
                Assert.Equal(0.0, result[i]);
                result[i] = fixtures[name + ".y_" + (dtype == DType.F64 ? "f64" : "f32")][i];
            }
        }

        return result;
    }

    /// <summary>A gradient in the order of the fixtures.</summary>
    public double[] Result(Tensor tensor)
    {
        using Tensor ours = IsHeads ? tensor.Transpose(1, 2) : tensor.Share();
        return ours.ToDoubles();
    }

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
        {
            owned.Dispose();
        }
    }

    private bool IsHeads => name.StartsWith("attention", StringComparison.Ordinal) || name.StartsWith("rope", StringComparison.Ordinal);

    private Variable Rope(Tape tape)
    {
        double[] frequencies = fixtures[name + ".inv_freq"];
        double[] positions = fixtures[name + ".positions"];
        int count = (int)positions.Max() + 1;
        Variable x = HeadsLeaf("x");
        Shape shape = x.Value.Shape;
        using Variable rows = tape.Reshape(x, shape[0] * shape[1], shape[2] * shape[3]);
        using Variable copy = tape.Scale(rows, 1);
        using Variable rotated = tape.Rope(copy, shape[2], shape[3], Table(Math.Cos), Table(Math.Sin), Integers("positions"));
        return tape.Reshape(rotated, shape[0], shape[1], shape[2], shape[3]);

        Tensor Table(Func<double, double> function) => Own(Make(
            [.. Enumerable.Range(0, count * frequencies.Length).Select(i => function(i / frequencies.Length * frequencies[i % frequencies.Length]))],
            [count, frequencies.Length]));
    }

    private Variable CrossEntropy(Tape tape)
    {
        Tensor labels = Integers("labels");
        int counted = fixtures[name + ".labels"].Count(l => l >= 0);
        Tensor losses = Own(Tensors.Tensor.Empty(labels.Shape, dtype, TestDevice.Current));
        Tensor scale = Own(Make([1f / counted], [1]));
        return tape.CrossEntropy(Leaf("logits"), labels, scale, losses);
    }

    private Variable Attention(Tape tape)
    {
        int[] shape = fixtures.Shape(name + ".mask");
        double[] mask = fixtures[name + ".mask"];
        double[] valid = fixtures[name + ".valid"];
        var starts = new int[shape[0] * shape[1]];
        for (int row = 0; row < starts.Length; row++)
        {
            // Padding: PyTorch leaves its rows undefined but for a zero upstream gradient; ours see no key.
            int first = mask.AsSpan(row * shape[2], shape[2]).IndexOf(1.0);
            starts[row] = first < 0 || valid[row] == 0 ? shape[2] : first;
        }

        Tensor keyStart = Own(Tensors.Tensor.From(starts, [shape[0], shape[1]], TestDevice.Current));
        Variable q = HeadsLeaf("q");
        Shape heads = q.Value.Shape;
        using Variable queries = Flatten(q);
        using Variable keys = Flatten(HeadsLeaf("k"));
        using Variable values = Flatten(HeadsLeaf("v"));
        int keyHeads = keys.Value.Shape[1] / heads[3];
        using Variable o = tape.Attention(queries, keys, values, heads[2], keyHeads, keyStart, 1 / MathF.Sqrt(heads[3]));
        return tape.Reshape(o, heads[0], heads[1], heads[2], heads[3]);

        Variable Flatten(Variable x) => tape.Reshape(x, x.Value.Shape[0] * x.Value.Shape[1], x.Value.Shape[2] * x.Value.Shape[3]);
    }

    private Variable SwiGlu(Tape tape)
    {
        using Variable gate = tape.Reshape(Leaf("gate"), -1, fixtures.Shape(name + ".gate")[^1]);
        using Variable up = tape.Reshape(Leaf("up"), -1, fixtures.Shape(name + ".gate")[^1]);
        using Variable both = tape.JoinColumns([gate, up]);
        return tape.SwiGlu(both);
    }

    // The low-rank path in the border of the weight, as a model takes it.
    private Variable AdaptedLinear(Tape tape, float scale)
    {
        Variable x = Rows("x");
        Variable a = Leaf("A");
        Variable b = Leaf("B");
        BorderedWeight weight = Own(BorderedWeight.Create([Frozen("weight").Value], [a.Value.Shape[0]], transposed: false));
        weight.TryAssign([a.Value.Shape[0]], [scale]);
        using var writer = new BorderWriter();
        writer.Add(weight, 0, a.Value, b.Value);
        writer.Run();
        return tape.AdaptedLinear(x, null, weight, [new AdaptedPart(a, b, null)]);
    }

    private Variable LowRank(Tape tape, float scale)
    {
        Variable x = Rows("x");
        using Variable y = tape.Linear(x, Frozen("weight"), null);
        return tape.LowRank(y, x, Leaf("A"), Leaf("B"), scale);
    }

    private Variable Dora(Tape tape, float scale)
    {
        Variable weight = Frozen("weight");
        using Variable adapted = LowRank(tape, scale);
        Variable magnitude = Leaf("magnitude");
        Tensor norm = Own(magnitude.Value.EmptyLike());
        Kernels.Dora.WeightNorm(weight.Value, Leaves["A"].Value, Leaves["B"].Value, scale, transposed: false, norm);
        return tape.ScaleColumns(adapted, magnitude, norm, null);
    }

    private Variable Leaf(string input) => Leaf(input, Tensor($"{name}.{input}", new Shape(fixtures.Shape($"{name}.{input}"))));

    private Variable Rows(string input) => Leaf(input, Tensor($"{name}.{input}", Flat(fixtures.Shape($"{name}.{input}"))));

    private Variable HeadsLeaf(string input) => Leaf(input, Heads(input));

    private Variable Leaf(string input, Tensor value)
    {
        Leaves.Add(input, Own(new Variable(value, requiresGrad: true, input)));
        return Leaves[input];
    }

    private Variable Frozen(string input) => Own(new Variable(Tensor($"{name}.{input}", new Shape(fixtures.Shape($"{name}.{input}")))));

    private Tensor Heads(string input)
    {
        using Tensor stored = Tensor($"{name}.{input}", new Shape(fixtures.Shape($"{name}.{input}")));
        using Tensor view = stored.Transpose(1, 2);
        Tensor contiguous = view.EmptyLike();
        Copy.Run(view, contiguous);
        return contiguous;
    }

    private Tensor Integers(string input) => Own(Tensors.Tensor.From(
        Array.ConvertAll(fixtures[$"{name}.{input}"], x => (int)x), new Shape(fixtures.Shape($"{name}.{input}")), TestDevice.Current));

    private Tensor Tensor(string tensor, Shape shape) => Make(fixtures[tensor], shape);

    private Tensor Make(double[] values, Shape shape) => dtype == DType.F64
        ? Tensors.Tensor.From(values, shape, TestDevice.Current)
        : Tensors.Tensor.From(Array.ConvertAll(values, x => (float)x), shape, TestDevice.Current);

    private static Shape Flat(int[] shape) => shape.Length switch
    {
        0 => [1],
        > 2 => [shape[..^1].Aggregate(1, (a, b) => a * b), shape[^1]],
        _ => new Shape(shape),
    };

    private float Number(string parameter) => ParityFixtures.Parameters(name).GetProperty(parameter).GetSingle();

    private T Own<T>(T owned)
        where T : IDisposable
    {
        _owned.Add(owned);
        return owned;
    }
}

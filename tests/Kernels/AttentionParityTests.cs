using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Attention against PyTorch's, through transposed views of tensors stored [B, H, T, D].</summary>
public sealed class AttentionParityTests
{
    private static readonly ParityFixtures s_fixtures = new();

    public static TheoryData<string> Cases => [.. s_fixtures.Cases("attention_")];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_and_backward_match_the_reference(string name)
    {
        int[] shape = s_fixtures.Shape(name + ".q");
        int[] keyShape = s_fixtures.Shape(name + ".k");
        (int batch, int heads, int queries, int keys) = (shape[0], shape[1], shape[2], keyShape[2]);
        double[] mask = s_fixtures[name + ".mask"];
        double[] valid = s_fixtures[name + ".valid"];
        var starts = new int[batch * queries];
        for (int row = 0; row < starts.Length; row++)
        {
            int first = mask.AsSpan(row * keys, keys).IndexOf(1.0);
            starts[row] = first < 0 ? keys : first;
        }

        using Tensor q = Stored(name + ".q");
        using Tensor k = Stored(name + ".k");
        using Tensor v = Stored(name + ".v");
        using Tensor keyStart = Tensor.From(starts, [batch, queries], TestDevice.Current);
        using Tensor yStored = Tensor.Zeros(new Shape(shape), DType.F32, TestDevice.Current);
        using Tensor y = yStored.Transpose(1, 2);
        using Tensor lse = Tensor.Empty([batch, heads, queries], DType.F32, TestDevice.Current);
        float scale = 1 / MathF.Sqrt(shape[3]);
        Attention.Forward(q, k, v, keyStart, keys - queries, scale, y, lse);

        // The reference leaves the output at padding undefined; ours is 0 there.
        double[] actual = Array.ConvertAll(yStored.ToArray<float>(), x => (double)x);
        double[] defined = s_fixtures[name + ".y_f64"];
        for (int i = 0; i < actual.Length; i++)
        {
            int query = i / shape[3] % queries;
            if (valid[(i / shape[3] / queries / heads * queries) + query] == 0)
            {
                Assert.Equal(0.0, actual[i]);
                actual[i] = defined[i];
            }
        }

        s_fixtures.AssertAsGoodAsReference(name + ".y", actual);
        if (queries < keys)
        {
            return;
        }

        using Tensor dy = Stored(name + ".dy");
        using Tensor dqStored = Tensor.Empty(new Shape(shape), DType.F32, TestDevice.Current);
        using Tensor dkStored = Tensor.Empty(new Shape(keyShape), DType.F32, TestDevice.Current);
        using Tensor dvStored = Tensor.Empty(new Shape(keyShape), DType.F32, TestDevice.Current);
        using Tensor dq = dqStored.Transpose(1, 2);
        using Tensor dk = dkStored.Transpose(1, 2);
        using Tensor dv = dvStored.Transpose(1, 2);
        Attention.Backward(dy, q, k, v, y, lse, keyStart, scale, dq, dk, dv);
        foreach ((string gradient, Tensor result) in new[] { (".dq", dqStored), (".dk", dkStored), (".dv", dvStored) })
        {
            s_fixtures.AssertAsGoodAsReference(name + gradient, Array.ConvertAll(result.ToArray<float>(), x => (double)x));
        }
    }

    private static Tensor Stored(string name)
    {
        float[] values = Array.ConvertAll(s_fixtures[name], x => (float)x);
        using Tensor stored = Tensor.From(values, new Shape(s_fixtures.Shape(name)), TestDevice.Current);
        return stored.Transpose(1, 2);
    }
}

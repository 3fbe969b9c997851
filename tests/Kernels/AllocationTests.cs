using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>A warm kernel takes nothing from the managed heap, on one thread or several.</summary>
[Collection(nameof(CpuParallel))]
[Trait("Device", "Cpu")]
public sealed class AllocationTests : IDisposable
{
    private readonly List<Tensor> _tensors = [];

    public static TheoryData<string, DType> Cases
    {
        get
        {
            var data = new TheoryData<string, DType>();
            using var any = new AllocationTests();
            foreach (string op in any.Ops(DType.F32).Keys)
            {
                data.Add(op, DType.F32);
                data.Add(op, DType.BF16);
                data.Add(op, DType.F64);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_warm_call_allocates_nothing(string name, DType dtype)
    {
        Action op = Ops(dtype)[name];
        int before = CpuParallel.ThreadCount;
        try
        {
            foreach (int threads in new[] { 1, 3 })
            {
                CpuParallel.ThreadCount = threads;
                op();
                op();

                // The calling thread only: a worker's first task may still make that worker's scratch.
                Assert.Equal(0, Allocated.By(op));
            }
        }
        finally
        {
            CpuParallel.ThreadCount = before;
        }
    }

    public void Dispose() => _tensors.ForEach(tensor => tensor.Dispose());

    private Dictionary<string, Action> Ops(DType dtype)
    {
        const int Rows = 300;
        const int Columns = 128;
        DType statistics = dtype == DType.F64 ? DType.F64 : DType.F32;
        Tensor x = Ones([Rows, Columns], dtype);
        Tensor y = Ones([Rows, Columns], dtype);
        Tensor z = Ones([Rows, Columns], dtype);
        Tensor u = Ones([Rows, Columns], dtype);
        Tensor w = Ones([Columns], dtype);
        Tensor b = Ones([Columns], dtype);
        Tensor mean = Ones([Rows], statistics);
        Tensor rstd = Ones([Rows], statistics);
        Tensor ids = Keep(Tensor.Zeros([Rows], DType.I32, Device.Cpu));
        Tensor positions = Keep(Tensor.Zeros([3, 100], DType.I32, Device.Cpu));
        Tensor heads = Keep(x.Reshape(3, 100, 4, 32));
        Tensor table = Ones([5, 16], statistics);
        Tensor turned = Keep(heads.Transpose(1, 2));
        Tensor turnedOut = Keep(y.Reshape(3, 4, 100, 32));
        Tensor other = Ones([Rows, Columns], dtype == DType.F32 ? DType.BF16 : DType.F32);
        return new Dictionary<string, Action>
        {
            ["Add"] = () => Elementwise.Add(x, y, z),
            ["Multiply"] = () => Elementwise.Multiply(x, y, z),
            ["Scale"] = () => Elementwise.Scale(x, 0.5f, z),
            ["AddScaled"] = () => Elementwise.AddScaled(z, x, 0.5f),
            ["AddBias"] = () => Elementwise.AddBias(z, b),
            ["BiasGradient"] = () => Elementwise.BiasGradient(x, b),
            ["ScaleColumns"] = () => Elementwise.ScaleColumns(x, w, z),
            ["Cast"] = () => Cast.Run(x, other),
            ["Copy"] = () => Copy.Run(turned, turnedOut),
            ["Gelu"] = () => Gelu.Forward(x, false, z),
            ["GeluBackward"] = () => Gelu.Backward(y, x, true, z),
            ["Silu"] = () => Silu.Forward(x, z),
            ["SiluBackward"] = () => Silu.Backward(y, x, z),
            ["SwiGlu"] = () => SwiGlu.Forward(x, y, z),
            ["SwiGluBackward"] = () => SwiGlu.Backward(x, y, y, z, u),
            ["LayerNorm"] = () => LayerNorm.Forward(x, w, b, 1e-5f, z, mean, rstd),
            ["LayerNormBackward"] = () => LayerNorm.Backward(y, x, w, mean, rstd, z, w, b),
            ["RmsNorm"] = () => RmsNorm.Forward(x, w, 1e-5f, z, rstd),
            ["RmsNormBackward"] = () => RmsNorm.Backward(y, x, w, rstd, z, w),
            ["Rope"] = () => Rope.Apply(heads, table, table, positions, false, heads),
            ["Embedding"] = () => Embedding.Forward(ids, x, z),
            ["EmbeddingBackward"] = () => Embedding.Backward(ids, y, z),
            ["CrossEntropy"] = () => CrossEntropy.Forward(x, ids, mean, z, 0.1f),
            ["Dropout"] = () => Dropout.Apply(x, 0.1f, new DropoutKey(1, 2), z),
        };
    }

    private Tensor Ones(Shape shape, DType dtype)
    {
        var values = new float[shape.Elements];
        values.AsSpan().Fill(1);
        using Tensor single = Tensor.From(values, shape, Device.Cpu);
        Tensor result = Keep(Tensor.Empty(shape, dtype, Device.Cpu));
        Cast.Run(single, result);
        return result;
    }

    private Tensor Keep(Tensor tensor)
    {
        _tensors.Add(tensor);
        return tensor;
    }
}

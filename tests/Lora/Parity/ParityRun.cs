using System.Runtime.InteropServices;
using Engine.Autograd;
using Engine.Kernels;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

/// <summary>Runs models and adapters over the data that the fixtures were made with.</summary>
internal static class ParityRun
{
    private const int Rows = 4;
    private const int Length = 20;

    public static string PathOf(params string[] parts) => Path.Combine([Parity.Root, .. parts]);

    /// <summary>A base of the fixtures, such as <c>arch/llama</c>, ready for adapters.</summary>
    public static AdaptedModel Load(string model, DType? dtype = null, Device? device = null) =>
        new(DecoderModel.Load(PathOf(model), dtype, device ?? TestDevice.Current));

    /// <summary>The three training batches, which steps take in turn.</summary>
    public static Batch[] Batches()
    {
        using SafetensorsFile file = SafetensorsFile.Open(PathOf("data.safetensors"));
        int[] ids = Integers(file["input_ids"]);
        int[] labels = Integers(file["labels"]);
        Example[] rows = [.. Enumerable.Range(0, ids.Length / Length).Select(r =>
            new Example(ids[(r * Length)..((r + 1) * Length)], labels[(r * Length)..((r + 1) * Length)]))];
        return [.. rows.Chunk(Rows).Select(b => Batch.Collate(b))];
    }

    /// <summary>Token ids of the fixtures' data file and the number of their rows.</summary>
    public static (int[] Ids, int Rows) Ids(string name)
    {
        using SafetensorsFile file = SafetensorsFile.Open(PathOf("data.safetensors"));
        return (Integers(file[name]), (int)file[name].Shape[0]);
    }

    /// <summary>Logits [rows·length·vocabulary] of what answers now.</summary>
    public static float[] Logits(AdaptedModel model, (int[] Ids, int Rows) input, IReadOnlyList<int>? rowAdapters = null)
    {
        int length = input.Ids.Length / input.Rows;
        using var context = new BatchContext(
            model.Base.Device, input.Rows, length, BatchContext.DensePositions(input.Rows, length), new int[input.Ids.Length])
        { RowAdapters = rowAdapters };
        using Tape tape = Tape.Inference();
        using Variable hidden = model.Base.Hidden(tape, context, input.Ids);
        using Variable logits = model.Base.Logits(tape, context, hidden);
        return Floats(logits.Value);
    }

    /// <summary>Trains what is given for some steps over the fixtures' batches.</summary>
    public static void Train(AdaptedModel model, IReadOnlyList<Variable> trained, int steps, double rate)
    {
        Batch[] batches = Batches();
        using var step = new TrainingStep(model, trained, new AdamWOptions());
        for (int i = 0; i < steps; i++)
        {
            step.Run([batches[i % batches.Length]], rate);
        }
    }

    /// <summary>A tensor's values as floats.</summary>
    public static float[] Floats(Tensor tensor)
    {
        if (tensor.DType == DType.F32)
        {
            return tensor.ToArray<float>();
        }

        using Tensor f32 = tensor.EmptyLike(DType.F32);
        Cast.Run(tensor, f32);
        return f32.ToArray<float>();
    }

    /// <summary>All tensors of a safetensors file, as floats.</summary>
    public static Dictionary<string, float[]> Tensors(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        return file.Tensors.Where(t => t.Value.DType is DType.F32 or DType.F64 or DType.BF16 or DType.F16).ToDictionary(
            t => t.Key,
            t =>
            {
                using Tensor tensor = SafetensorsBridge.Read(t.Value, DType.F32, Device.Cpu);
                return tensor.ToArray<float>();
            },
            StringComparer.Ordinal);
    }

    /// <summary>Names with dtypes and shapes of a safetensors file, one a line, sorted.</summary>
    public static string Layout(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        return string.Join("\n", file.Tensors.Values
            .Select(t => $"{t.Name} {t.DTypeName} [{string.Join(", ", t.Shape.ToArray())}]")
            .Order(StringComparer.Ordinal));
    }

    /// <summary>The largest absolute difference; fails on other lengths or values that are not finite.</summary>
    public static double MaxDifference(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        double worst = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs((double)expected[i] - actual[i]);
            Assert.True(double.IsFinite(difference), $"index {i}: expected {expected[i]}, found {actual[i]}");
            worst = Math.Max(worst, difference);
        }

        return worst;
    }

    /// <summary>The largest absolute value.</summary>
    public static double Scale(float[] values) => values.Max(v => Math.Abs((double)v));

    private static int[] Integers(SafetensorsTensor tensor) =>
        [.. MemoryMarshal.Cast<byte, long>(tensor.Data).ToArray().Select(v => checked((int)v))];
}

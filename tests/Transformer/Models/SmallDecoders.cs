using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer.Tests.Models;

/// <summary>Decoders of each kind with every parameter trainable, and a batch with left padding and packed examples.</summary>
internal static class SmallDecoders
{
    public static readonly string[] Names = ["llama", "mistral", "qwen2", "qwen3", "gpt2"];

    /// <summary>Two layers; widths are multiples of <paramref name="scale"/>.</summary>
    public static ModelConfig Config(string name, int scale = 1)
    {
        var llama = new ModelConfig
        {
            Family = ModelFamily.Llama,
            VocabularySize = 11 * scale,
            HiddenSize = 8 * scale,
            LayerCount = 2,
            HeadCount = 4,
            KeyValueHeadCount = 2,
            HeadDim = 2 * scale,
            IntermediateSize = 10 * scale,
            MaxPositions = 16 * scale,
            NormEps = 1e-5,
        };
        return name switch
        {
            "llama" => llama,
            "mistral" => llama with { Family = ModelFamily.Mistral, LayerWindows = [3, 0] },
            "qwen2" => llama with
            {
                Family = ModelFamily.Qwen2,
                QueryBias = true,
                KeyBias = true,
                ValueBias = true,
                TieWordEmbeddings = true,
            },
            "qwen3" => llama with { Family = ModelFamily.Qwen3, QkNorm = true, HeadDim = 4 * scale },
            "gpt2" => llama with
            {
                Family = ModelFamily.Gpt2,
                KeyValueHeadCount = 4,
                Norm = NormKind.LayerNorm,
                Activation = ActivationKind.GeluTanh,
                GatedMlp = false,
                Positions = PositionKind.Learned,
                QueryBias = true,
                KeyBias = true,
                ValueBias = true,
                OutputBias = true,
                MlpBias = true,
                TieWordEmbeddings = true,
            },
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, null),
        };
    }

    /// <summary>The model with all parameters trainable.</summary>
    public static DecoderModel Build(ModelConfig config, DType dtype, Device device, double deviation)
    {
        DecoderModel model = DecoderModel.Build(config, new Perturbed(new RandomParameters(5, config.LayerCount, deviation)), dtype, device);
        foreach (Variable parameter in model.Parameters.Values)
        {
            parameter.RequiresGrad = true;
        }

        return model;
    }

    /// <summary>
    /// Two rows: the first begins with a quarter of padding, the second holds two packed examples of unequal length.
    /// </summary>
    public static (BatchContext Batch, int[] Ids, int[] Labels) Batch(DecoderModel model, int length, bool checkpoint = false)
    {
        int padding = length / 4;
        int second = (length / 2) + 1;
        var positions = new int[2 * length];
        var keyStart = new int[2 * length];
        var ids = new int[2 * length];
        var labels = new int[2 * length];
        for (int t = 0; t < length; t++)
        {
            positions[t] = Math.Max(0, t - padding);
            keyStart[t] = padding;
            keyStart[length + t] = t < second ? 0 : second;
            positions[length + t] = t - keyStart[length + t];
            ids[t] = ((5 * t) + 2) % model.Config.VocabularySize;
            ids[length + t] = ((3 * t * t) + 1) % model.Config.VocabularySize;
            labels[t] = t <= padding ? DecoderModel.IgnoreLabel : ids[t];
            labels[length + t] = t == second || t % 5 == 3 ? DecoderModel.IgnoreLabel : ids[length + t];
        }

        return (new BatchContext(model.Device, 2, length, positions, keyStart) { CheckpointBlocks = checkpoint, Training = true }, ids, labels);
    }

    /// <summary>Runs forward and backward and returns each parameter's gradient by name.</summary>
    public static Dictionary<string, byte[]> Gradients(DecoderModel model, int length, bool checkpoint = false)
    {
        (BatchContext batch, int[] ids, int[] labels) = Batch(model, length, checkpoint);
        using (batch)
        using (var tape = new Tape())
        using (BatchLoss loss = model.Loss(tape, batch, ids, labels, 1f / DecoderModel.CountLabels(length, labels)))
        {
            Tensor one = model.DType == DType.F64
                ? Tensor.From([1.0], [1], model.Device)
                : Tensor.From([1f], [1], model.Device);
            tape.Backward(loss.Value, one);
        }

        Dictionary<string, byte[]> gradients = model.Parameters.ToDictionary(p => p.Key, p => p.Value.Gradient!.ToBytes());
        foreach (Variable parameter in model.Parameters.Values)
        {
            parameter.ClearGradient();
        }

        return gradients;
    }

    // Norms and biases away from their initial ones and zeros, where a wrong gradient might not show.
    private sealed class Perturbed(IParameterSource source) : IParameterSource
    {
        public Tensor Get(string name, Shape shape, DType dtype, Device device)
        {
            Tensor values = source.Get(name, shape, dtype, device);
            if (shape.Rank > 1)
            {
                return values;
            }

            var noise = new float[shape.Elements];
            RandomNumbers.Normal(9, RandomNumbers.StreamOf(name), noise, 0.3f);
            using Tensor single = Tensor.From(noise, shape, device);
            using Tensor typed = single.EmptyLike(dtype);
            Cast.Run(single, typed);
            Elementwise.Add(values, typed, values);
            return values;
        }
    }
}

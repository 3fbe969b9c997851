using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer;

public sealed partial class DecoderModel
{
    /// <summary>Builds a model from a configuration and a source of parameters; all parameters start frozen.</summary>
    public static DecoderModel Build(ModelConfig config, IParameterSource source, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(device);
        var builder = new DecoderBuilder(config, source, dtype, device);
        try
        {
            EmbeddingModule tokens = builder.Tokens();
            EmbeddingModule? positions = builder.Positions();
            var blocks = new DecoderBlock[config.LayerCount];
            for (int i = 0; i < blocks.Length; i++)
            {
                blocks[i] = builder.Block(i);
            }

            return new DecoderModel(
                config, dtype, device, tokens, positions, blocks, builder.FinalNorm(), builder.Head(tokens), builder.Rotary, builder.Parameters);
        }
        catch
        {
            foreach (Variable parameter in builder.Parameters.Values)
            {
                parameter.Dispose();
            }

            throw;
        }
    }

    /// <summary>Loads a Hugging Face model directory.</summary>
    /// <param name="directory">Has <c>config.json</c> and safetensors weights, one file or shards.</param>
    /// <param name="dtype">Dtype to hold the parameters in; null for the checkpoint's own.</param>
    /// <param name="device">Where to put them.</param>
    /// <exception cref="EngineDataException">A file, field, tensor, shape or dtype is missing or wrong.</exception>
    public static DecoderModel Load(string directory, DType? dtype, Device device) => Load(directory, stored => dtype ?? stored, device);

    /// <summary>
    /// Loads a Hugging Face model directory in the dtype to compute in: the one given, else f32, or the checkpoint's own where
    /// that is bf16 or f16 and the device prefers narrow types.
    /// </summary>
    /// <inheritdoc cref="Load(string, DType?, Device)"/>
    public static DecoderModel LoadToCompute(string directory, DType? dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Load(
            directory,
            stored => dtype ?? (device.PrefersNarrowTypes && stored is (DType.BF16 or DType.F16) ? stored : DType.F32),
            device);
    }

    private static DecoderModel Load(string directory, Func<DType, DType> dtype, Device device)
    {
        ModelConfig config = ModelConfig.Load(directory);
        using CheckpointReader checkpoint = CheckpointReader.Open(directory);
        var source = new CheckpointParameters(checkpoint, config);
        DecoderModel model = Build(config, source, dtype(source.StorageDType), device);
        try
        {
            source.CheckNothingLeft(model);
        }
        catch
        {
            model.Dispose();
            throw;
        }

        return model;
    }
}

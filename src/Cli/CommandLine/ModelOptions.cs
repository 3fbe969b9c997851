using System.CommandLine;
using Engine.Lora;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli;

/// <summary>The options of commands that run a model: the base, an adapter, the element type.</summary>
internal sealed class ModelOptions
{
    private const string AdapterName = "default";

    private readonly Option<string> _model = OptionOf.Text("--model", "DIR", "Directory of the model.", required: true);
    private readonly Option<string> _adapter = OptionOf.Text("--adapter", "DIR", "Directory of an adapter to apply.");
    private readonly Option<DType?> _dtype = OptionOf.DTypeOption("Element type to compute in (f32; on a GPU the checkpoint's own if bf16 or f16).");

    public void AddTo(Command command)
    {
        command.Add(_model);
        command.Add(_adapter);
        command.Add(_dtype);
    }

    public string Directory(CommandContext context) => context.Get(_model)!;

    /// <summary>The model's tokenizer, or null when it has none.</summary>
    public Tokenizer? Tokenizer(CommandContext context) => DataLoader.TokenizerOf(Directory(context));

    public ModelConfig Config(CommandContext context) => ModelConfig.Load(Directory(context));

    /// <summary>Loads the model, the adapter on it and active.</summary>
    /// <exception cref="EngineDataException">A file is wrong, or the adapter belongs to another base.</exception>
    public AdaptedModel Open(CommandContext context)
    {
        var model = new AdaptedModel(DecoderModel.LoadToCompute(Directory(context), context.Get(_dtype), context.Device));
        try
        {
            if (context.Get(_adapter) is { } adapter)
            {
                AdapterFile.Load(model, AdapterName, adapter);
                model.Activate(AdapterName);
            }

            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }
}

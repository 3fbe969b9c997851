using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>Checks that a path is a model directory before anything in it is read.</summary>
internal static class ModelDirectory
{
    public static void RequireConfig(string directory)
    {
        if (!Directory.Exists(directory))
        {
            throw new EngineDataException(File.Exists(directory)
                ? $"{directory}: this is a file; the directory of a model is needed"
                : $"{directory}: there is no such directory; the directory of a model is needed");
        }

        if (!File.Exists(Path.Combine(directory, "config.json")))
        {
            throw new EngineDataException(File.Exists(Path.Combine(directory, "adapter_config.json"))
                ? $"{directory}: this is an adapter's directory, it has adapter_config.json and no config.json; give it as the adapter, and its base as the model"
                : $"{directory}: config.json is missing; a Hugging Face model directory has config.json, model.safetensors and tokenizer.json");
        }
    }
}

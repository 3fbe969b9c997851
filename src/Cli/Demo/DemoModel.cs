using System.Reflection;
using Engine.Tensors;

namespace Engine.Cli.Demo;

/// <summary>The base model that ships inside the program, and its unpacking.</summary>
internal static class DemoModel
{
    private const string Prefix = "Demo/Base/";

    /// <summary>The files of the model's directory, in the order they are written.</summary>
    public static IReadOnlyList<string> Files { get; } = ["tokenizer.json", "tokenizer_config.json", "model.safetensors", "config.json"];

    /// <summary>Writes the model's directory.</summary>
    /// <exception cref="EngineDataException">The directory cannot be written.</exception>
    public static void Unpack(string directory)
    {
        foreach (string file in Files)
        {
            using Stream content = Open(file);
            AtomicFile.Write(Path.Combine(directory, file), content.CopyTo);
        }
    }

    /// <summary>One of the embedded files.</summary>
    public static Stream Open(string file) =>
        Assembly.GetExecutingAssembly().GetManifestResourceStream(Prefix + file)
        ?? throw new InvalidOperationException($"{Prefix}{file} is not embedded in the program");
}

using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// What a run read, as a checkpoint remembers it: paths may change between a run and its continuation, contents may not.
/// The data count as the tokens and labels that were made of them, so a change of tokenizer or length shows as well.
/// </summary>
/// <param name="Rows">Training rows, after packing.</param>
/// <param name="DataHash">SHA-256 of all tokens, labels and segments.</param>
/// <param name="ModelHash">SHA-256 of the base's parameter names, shapes and leading values.</param>
/// <param name="AdapterHash">SHA-256 of the adapter's whole configuration; null when every weight is trained.</param>
/// <param name="HeldOutHash">As <paramref name="DataHash"/> of the rows that decide an early stop; null where none do.</param>
internal sealed record TrainingInputs(int Rows, string DataHash, string ModelHash, string? AdapterHash, string? HeldOutHash)
{
    private const string FileName = "inputs.json";

    // Another base differs in the first values of some tensor; a full hash of a large base would take longer than the steps.
    private const int LeadingBytes = 4096;

    /// <summary>Call it before the first step: full training changes the base.</summary>
    /// <param name="examples">The training rows.</param>
    /// <param name="model">The base.</param>
    /// <param name="adapter">The trained adapter's configuration, or null.</param>
    /// <param name="heldOut">The held-out rows where they decide an early stop, else null.</param>
    public static TrainingInputs Of(
        IReadOnlyList<Example> examples, AdaptedModel model, LoraConfig? adapter, IReadOnlyList<EvaluationRow>? heldOut) =>
        new(examples.Count, HashOf(examples), HashOf(model), HashOf(adapter), heldOut is null ? null : HashOf(heldOut.Select(r => r.Example)));

    public void Save(string directory)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteNumber("rows", Rows);
            json.WriteString("data_sha256", DataHash);
            json.WriteString("model_sha256", ModelHash);
            json.WriteString("adapter_config_sha256", AdapterHash);
            json.WriteString("held_out_sha256", HeldOutHash);
            json.WriteEndObject();
        }

        AtomicFile.WriteAllText(Path.Combine(directory, FileName), Encoding.UTF8.GetString(stream.ToArray()) + "\n");
    }

    public void RequireSame(string checkpoint)
    {
        string path = Path.Combine(checkpoint, FileName);
        JsonFields saved = JsonFields.Load(path);
        int rows = saved.Int("rows") ?? throw saved.Missing("rows", "an integer");
        if (rows != Rows || saved.String("data_sha256") != DataHash)
        {
            string difference = rows != Rows ? $"it had {rows} rows, now there are {Rows}" : $"its {Rows} rows have changed";
            throw new EngineDataException(
                $"{path}: cannot resume with other training data than the run was started with: {difference}; " +
                "give the same data, or start a new run in another directory");
        }

        if (saved.String("model_sha256") != ModelHash)
        {
            throw new EngineDataException(
                $"{path}: cannot resume on another base model than the run was started with; give the same model, or start a new run in another directory");
        }

        if (saved.String("adapter_config_sha256") != AdapterHash)
        {
            throw new EngineDataException(
                $"{path}: cannot resume with another adapter configuration than the run was started with (the file of peft-config or of the " +
                "adapter has changed); give the same configuration, or start a new run in another directory");
        }

        if (saved.String("held_out_sha256") != HeldOutHash)
        {
            throw new EngineDataException(
                $"{path}: cannot resume with other held-out rows than the run was started with: with patience they decide when it ends; " +
                "give the same rows, or start a new run in another directory");
        }
    }

    // The base's path may change; everything else says what is trained.
    private static string? HashOf(LoraConfig? adapter) => adapter is null
        ? null
        : Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes((adapter with { BaseModelNameOrPath = null }).ToJson())));

    private static string HashOf(IEnumerable<Example> examples)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<int> lengths = stackalloc int[2];
        foreach (Example example in examples)
        {
            lengths[0] = example.Length;
            lengths[1] = example.SegmentStarts?.Length ?? -1;
            hash.AppendData(MemoryMarshal.AsBytes(lengths));
            hash.AppendData(MemoryMarshal.AsBytes(example.Tokens.AsSpan()));
            hash.AppendData(MemoryMarshal.AsBytes(example.Labels.AsSpan()));
            hash.AppendData(MemoryMarshal.AsBytes(example.SegmentStarts.AsSpan()));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static string HashOf(AdaptedModel model)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var leading = new byte[LeadingBytes];
        foreach ((string name, Variable parameter) in model.Base.Parameters.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            Tensor value = parameter.Value;
            hash.AppendData(Encoding.UTF8.GetBytes($"{name} {value.DType.Name()}{value.Shape}\n"));
            Span<byte> part = leading.AsSpan(0, (int)Math.Min(LeadingBytes, value.ByteLength));
            value.Device.CopyToHost(value.Pointer, part);
            hash.AppendData(part);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}

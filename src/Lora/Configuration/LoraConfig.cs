using System.Text;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// The configuration of a LoRA adapter: the fields of PEFT's <c>adapter_config.json</c> that Engine acts on, under the
/// meaning PEFT gives them (version 0.21). Low-rank adaptation adds s·B·A to a frozen weight, with A [r, in],
/// B [out, r] (Hu et al., 2021, "LoRA", section 4.1).
/// </summary>
/// <remarks>
/// Fields of PEFT that Engine does not act on are accepted at the value at which they do nothing and are written back
/// with it; any other value is an error that names the field. Equality compares what would be written to a file.
/// </remarks>
public sealed partial record LoraConfig
{
    /// <summary>The name of the configuration file in an adapter directory.</summary>
    public const string FileName = "adapter_config.json";

    /// <summary><c>r</c>: the rank of the update, at least 1.</summary>
    public int Rank { get; init; } = 8;

    /// <summary><c>lora_alpha</c>: the numerator of the scale, above 0.</summary>
    public double Alpha { get; init; } = 8;

    /// <summary><c>lora_dropout</c>: the probability that an input of A is zeroed in training, in [0, 1).</summary>
    public double Dropout { get; init; }

    /// <summary>
    /// <c>target_modules</c>: which layers are adapted; null means the default of the model type
    /// (<see cref="DefaultTargets"/>).
    /// </summary>
    public NamesOrPattern? TargetModules { get; init; }

    /// <summary><c>exclude_modules</c>: which layers are left out although targeted; null or empty for none.</summary>
    public NamesOrPattern? ExcludeModules { get; init; }

    /// <summary>
    /// <c>layers_to_transform</c>: the indices of the blocks whose layers are adapted; null or empty for all. Only with
    /// <see cref="TargetModules"/> as a list.
    /// </summary>
    public OneOrMany<int>? LayersToTransform { get; init; }

    /// <summary>
    /// <c>layers_pattern</c>: the names (regular expressions) of the list of blocks whose index is meant; null or empty
    /// for the first numbered segment of the path.
    /// </summary>
    public OneOrMany<string>? LayersPattern { get; init; }

    /// <summary>
    /// <c>rank_pattern</c>: ranks that differ from <see cref="Rank"/>. A key is a regular expression that matches a whole
    /// path or its end after a dot; the first that matches counts.
    /// </summary>
    public IReadOnlyList<KeyValuePair<string, int>> RankPattern { get; init; } = [];

    /// <summary><c>alpha_pattern</c>: as <see cref="RankPattern"/>, for <see cref="Alpha"/>.</summary>
    public IReadOnlyList<KeyValuePair<string, double>> AlphaPattern { get; init; } = [];

    /// <summary><c>use_rslora</c>: scale by α/√r instead of α/r (Kalajdzievski, 2023, "rsLoRA").</summary>
    public bool UseRslora { get; init; }

    /// <summary><c>use_dora</c>: weight-decomposed adaptation with a magnitude vector (Liu et al., 2024, "DoRA").</summary>
    public bool UseDora { get; init; }

    /// <summary><c>bias</c>: which biases of the base are trained.</summary>
    public LoraBias Bias { get; init; }

    /// <summary>
    /// <c>modules_to_save</c>: modules trained in full and saved with the adapter; a module is meant when its path ends
    /// in one of these texts. Null for none.
    /// </summary>
    public IReadOnlyList<string>? ModulesToSave { get; init; }

    /// <summary>
    /// <c>fan_in_fan_out</c>: the base stores its weights [in, out], as GPT-2 does. Engine, as PEFT, goes by the kind of
    /// the layer; the field is only written.
    /// </summary>
    public bool FanInFanOut { get; init; }

    /// <summary><c>init_lora_weights</c>: how A and B start.</summary>
    public LoraInit Init { get; init; }

    /// <summary><c>base_model_name_or_path</c>: where the base came from; informative.</summary>
    public string? BaseModelNameOrPath { get; init; }

    /// <summary><c>revision</c>: the base's version; informative.</summary>
    public string? Revision { get; init; }

    /// <summary><c>task_type</c>: <c>CAUSAL_LM</c> or null.</summary>
    public string? TaskType { get; init; }

    /// <summary><c>inference_mode</c>: what PEFT saved; Engine decides by the command whether it trains.</summary>
    public bool InferenceMode { get; init; }

    /// <summary><c>auto_mapping</c>: PEFT's note on the base's Python class, kept as JSON text; null for none.</summary>
    public string? AutoMappingJson { get; init; }

    /// <summary><c>peft_version</c>: the PEFT that wrote the file, or null: PEFT then fills in its own.</summary>
    public string? PeftVersion { get; init; }

    /// <summary>The factor before B·A: α/r, or α/√r with <see cref="UseRslora"/>.</summary>
    /// <param name="rank">The layer's rank, at least 1.</param>
    /// <param name="alpha">The layer's α.</param>
    public double Scale(int rank, double alpha)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rank, 1);
        return UseRslora ? alpha / Math.Sqrt(rank) : alpha / rank;
    }

    /// <summary>Reads <c>adapter_config.json</c>, or a file of the same form.</summary>
    /// <exception cref="EngineDataException">
    /// The file cannot be read, is not JSON, or holds a field or value that is not supported.
    /// </exception>
    public static LoraConfig Load(string path) => Parse(ConfigJson.ReadFile(path), path);

    /// <summary>Reads a configuration from JSON text.</summary>
    /// <param name="utf8">The JSON, UTF-8 without a byte order mark.</param>
    /// <param name="source">The name for messages, usually the path.</param>
    /// <exception cref="EngineDataException">It is not JSON or holds a field or value that is not supported.</exception>
    public static LoraConfig Parse(ReadOnlyMemory<byte> utf8, string source)
    {
        LoraConfig config = LoraConfigReader.Read(utf8, source);
        config.Validate(source);
        return config;
    }

    /// <summary>Reads a configuration from JSON text.</summary>
    /// <exception cref="EngineDataException">It is not JSON or holds a field or value that is not supported.</exception>
    public static LoraConfig Parse(string json, string source = FileName) => Parse(Encoding.UTF8.GetBytes(json), source);

    /// <summary>
    /// The configuration as PEFT writes it: every field of PEFT 0.21, sorted by name, in the form of Python's
    /// <c>json.dumps(…, indent=2)</c>. The members of <c>rank_pattern</c> and <c>alpha_pattern</c> keep their order,
    /// because the first match counts.
    /// </summary>
    public string ToJson() => LoraConfigWriter.Write(this);

    /// <summary>Writes <see cref="ToJson"/> to a file that appears whole or not at all.</summary>
    /// <exception cref="EngineDataException">The file cannot be written.</exception>
    public void Save(string path) => AtomicFile.WriteAllText(path, ToJson());

    /// <inheritdoc/>
    public bool Equals(LoraConfig? other) => other is not null && ToJson() == other.ToJson();

    /// <inheritdoc/>
    public override int GetHashCode() => ToJson().GetHashCode(StringComparison.Ordinal);
}

using System.Text;

namespace Engine.Transformer.Tests.Generation;

[Trait("Device", "Cpu")]
public class GenerationOptionsTests
{
    private static readonly ModelConfig Config = new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = 8,
        HiddenSize = 4,
        LayerCount = 1,
        HeadCount = 1,
        KeyValueHeadCount = 1,
        HeadDim = 4,
        IntermediateSize = 4,
        MaxPositions = 16,
        EosTokenIds = [5],
    };

    private static GenerationDefaults File(string json) =>
        GenerationDefaults.Parse(JsonFields.Parse(Encoding.UTF8.GetBytes(json), "generation_config.json"));

    [Fact]
    public void Without_settings_the_defaults_hold()
    {
        GenerationOptions options = GenerationOptions.For(Config, new GenerationDefaults());
        Assert.Equal(new GenerationOptions { StopTokenIds = Config.EosTokenIds }, options);
        Assert.True(options.IsGreedy);
    }

    [Fact]
    public void The_callers_choice_comes_before_the_models_file()
    {
        GenerationDefaults file = File("""{"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.9,"eos_token_id":[1,2],"max_new_tokens":7,"repetition_penalty":1.1}""");
        GenerationOptions options = GenerationOptions.For(Config, file, new GenerationDefaults { TopK = 3, RepetitionPenalty = 1 });
        Assert.True(options.DoSample);
        Assert.Equal((0.6, 3, 0.9, 1.0, 7), (options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty, options.MaxNewTokens));
        Assert.Equal([1, 2], options.StopTokenIds);
        Assert.Equal([4], GenerationOptions.For(Config, file, new GenerationDefaults { EosTokenIds = [4] }).StopTokenIds);
        Assert.True(GenerationOptions.For(Config, file, new GenerationDefaults { DoSample = false }).IsGreedy);
    }

    [Fact]
    public void A_chosen_temperature_means_sampling_and_zero_means_greedy()
    {
        GenerationDefaults none = new();
        Assert.False(GenerationOptions.For(Config, none, new GenerationDefaults { Temperature = 0.5 }).IsGreedy);
        Assert.True(GenerationOptions.For(Config, none, new GenerationDefaults { Temperature = 0 }).IsGreedy);
        Assert.True(GenerationOptions.For(Config, none, new GenerationDefaults { Temperature = 0.5, DoSample = false }).IsGreedy);
    }

    public static TheoryData<GenerationOptions, string> Wrong => new()
    {
        { new GenerationOptions { MaxNewTokens = 0 }, "max_new_tokens is 0" },
        { new GenerationOptions { Temperature = -1 }, "temperature is -1" },
        { new GenerationOptions { Temperature = double.NaN }, "temperature is NaN" },
        { new GenerationOptions { TopK = -2 }, "top_k is -2" },
        { new GenerationOptions { TopP = 0 }, "top_p is 0" },
        { new GenerationOptions { TopP = 1.5 }, "top_p is 1.5" },
        { new GenerationOptions { RepetitionPenalty = 0 }, "repetition_penalty is 0" },
        { new GenerationOptions { StopTokenIds = [3, -7] }, "stop token id is -7" },
        { new GenerationOptions { StopStrings = [""] }, "stop string is \"\"" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_wrong_option_is_named(GenerationOptions options, string message) =>
        Assert.StartsWith(message, Assert.Throws<ArgumentException>(options.Validate).Message);
}

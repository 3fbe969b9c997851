using System.Text.Json;

namespace Engine.Transformer.Tests.Parity;

/// <summary>
/// Greedy generation against transformers', id by id. The fixtures' generations were chosen so that the best two scores
/// are at least 0.01 apart on the way, far beyond rounding.
/// </summary>
public class GenerationTests
{
    public static TheoryData<string> Names => ArchitectureFixture.Names;

    [Theory]
    [MemberData(nameof(Names))]
    public void Greedy_generation_of_one_prompt(string name) => AssertSingle(name, "greedy", 1);

    [Theory]
    [MemberData(nameof(Names))]
    public void Greedy_generation_with_a_repetition_penalty(string name) => AssertSingle(name, "repetition_penalty", 1.3);

    [Theory]
    [MemberData(nameof(Names))]
    public void Greedy_generation_of_a_left_padded_batch(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        JsonElement entry = fixture.Json.GetProperty("left_padded_batch");
        int[][] prompts = ArchitectureFixture.Rows(entry.GetProperty("prompts"));
        Assert.NotEqual(prompts[0].Length, prompts[1].Length);
        int[][] generated = Generate(fixture, prompts, new GenerationOptions());
        Assert.Equal(ArchitectureFixture.Rows(entry.GetProperty("generated")), generated);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_stop_token_ends_its_row_alone(string name)
    {
        using var fixture = new ArchitectureFixture(name);
        JsonElement entry = fixture.Json.GetProperty("stopped_batch");
        int stop = entry.GetProperty("eos_token_id").GetInt32();
        int[][] prompts = ArchitectureFixture.Rows(fixture.Json.GetProperty("left_padded_batch").GetProperty("prompts"));
        int[][] generated = Generate(fixture, prompts, new GenerationOptions { StopTokenIds = [stop] });

        // transformers goes on with padding behind the stop token; here the row ends with it.
        int[][] expected = ArchitectureFixture.Rows(entry.GetProperty("generated"));
        for (int r = 0; r < expected.Length; r++)
        {
            int end = Array.IndexOf(expected[r], stop);
            Assert.Equal(end < 0 ? expected[r] : expected[r][..(end + 1)], generated[r]);
        }

        Assert.Contains(generated, row => row[^1] == stop);
    }

    private static void AssertSingle(string name, string entryName, double penalty)
    {
        using var fixture = new ArchitectureFixture(name);
        JsonElement entry = fixture.Json.GetProperty(entryName);
        int[] prompt = ArchitectureFixture.Ints(entry.GetProperty("prompt"));
        int[][] generated = Generate(fixture, [prompt], new GenerationOptions { RepetitionPenalty = penalty });
        Assert.Equal(ArchitectureFixture.Ints(entry.GetProperty("generated")), generated[0]);
    }

    private static int[][] Generate(ArchitectureFixture fixture, int[][] prompts, GenerationOptions options)
    {
        using DecoderModel model = fixture.Load();
        options = options with { MaxNewTokens = fixture.Json.GetProperty("new_tokens").GetInt32() };
        IReadOnlyList<GenerationResult> results = new Generator(model).Generate([.. prompts.Select(p => new GenerationRequest(p))], options);
        return [.. results.Select(r => r.Ids.ToArray())];
    }
}

using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class LoralibTests
{
    private static readonly ModuleDescription s_layer = new("transformer.h.0.attn.c_attn", ModuleKind.Conv1D, 5, 12, true);

    [Fact]
    public void Keys_of_a_state_dictionary_are_read()
    {
        using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Parity.Root, "lora", "qv_default", "loralib.safetensors"));
        List<ModuleDescription> modules = Parity.Modules("arch/llama");
        foreach ((string name, SafetensorsTensor tensor) in file.Tensors)
        {
            AdapterKey key = LoralibKeys.Parse(name, "loralib.safetensors");
            ModuleDescription module = Assert.Single(modules, m => m.Path == key.Path);
            Assert.Equal(key.Part == AdapterPart.LoraA ? module.InFeatures : module.OutFeatures, tensor.Shape[key.Part == AdapterPart.LoraA ? 1 : 0]);
            Assert.Equal(name, LoralibKeys.Format(key.Path, key.Part));
        }

        Assert.Equal(8, file.Tensors.Count);
    }

    [Theory]
    [InlineData("module.transformer.h.0.attn.c_attn.lora_A", "transformer.h.0.attn.c_attn", AdapterPart.LoraA)]
    [InlineData("transformer.h.0.attn.c_attn.bias", "transformer.h.0.attn.c_attn", AdapterPart.Bias)]
    public void The_wrappers_prefix_is_left_out(string name, string path, AdapterPart part) =>
        Assert.Equal(new AdapterKey(path, part), LoralibKeys.Parse(name, "f"));

    [Theory]
    [InlineData("base_model.model.q_proj.lora_A.weight")]
    [InlineData("q_proj.weight")]
    [InlineData("lora_A")]
    [InlineData(".lora_A")]
    public void Other_names_are_errors(string name)
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => LoralibKeys.Parse(name, "dir/f.safetensors"));
        Assert.StartsWith($"dir/f.safetensors: tensor \"{name}\"", error.Message, StringComparison.Ordinal);
    }

    /// <summary>
    /// The dense pair gives what loralib's merge_AB computes: per adapted group a grouped 1×1 convolution of its own r
    /// rows of A with its own rows of B, and zero elsewhere. Each entry of B′·A sums the same r products (and zeros), so
    /// with small integers both are exact.
    /// </summary>
    [Theory]
    [InlineData(new[] { true, false, true })]
    [InlineData(new[] { true, true, true })]
    [InlineData(new[] { false, true, false })]
    [InlineData(new[] { true, true })]
    [InlineData(new[] { true })]
    public void A_merged_layer_equals_its_dense_pair(bool[] enable)
    {
        const int Rank = 2;
        int enabled = enable.Count(on => on);
        int groupRows = s_layer.OutFeatures / enable.Length;
        var random = new Random(20);
        float[] a = [.. Enumerable.Range(0, Rank * enabled * s_layer.InFeatures).Select(_ => (float)random.Next(-9, 10))];
        float[] b = [.. Enumerable.Range(0, groupRows * enabled * Rank).Select(_ => (float)random.Next(-9, 10))];
        LoralibMergedLinear merged = LoralibMergedLinear.Describe(
            s_layer, [Rank * enabled, s_layer.InFeatures], [groupRows * enabled, Rank], enable, "f");
        Assert.Equal(Rank * enabled, merged.DenseRank);
        Assert.Equal(16.0 / Rank, merged.DenseAlpha(16) / merged.DenseRank);

        float[] dense = merged.ExpandB(b);
        for (int row = 0; row < s_layer.OutFeatures; row++)
        {
            int group = row / groupRows;
            int block = enable.Take(group).Count(on => on);
            for (int column = 0; column < s_layer.InFeatures; column++)
            {
                float grouped = 0;
                for (int k = 0; enable[group] && k < Rank; k++)
                {
                    grouped += b[(((block * groupRows) + (row % groupRows)) * Rank) + k] *
                        a[(((block * Rank) + k) * s_layer.InFeatures) + column];
                }

                float product = 0;
                for (int k = 0; k < merged.DenseRank; k++)
                {
                    product += dense[(row * merged.DenseRank) + k] * a[(k * s_layer.InFeatures) + column];
                }

                Assert.Equal(grouped, product);
            }
        }

        Assert.Throws<ArgumentException>(() => merged.ExpandB(b.AsSpan(1)));
    }

    [Fact]
    public void Gpt2s_example_adapts_query_and_value()
    {
        var attention = new ModuleDescription("transformer.h.0.attn.c_attn", ModuleKind.Conv1D, 768, 2304, true);
        LoralibMergedLinear merged = LoralibMergedLinear.Describe(attention, [8, 768], [1536, 4], LoralibMergedLinear.Gpt2QueryValue, "f");
        Assert.Equal(4, merged.Rank);
        Assert.Equal(8, merged.DenseRank);
        Assert.False(LoralibMergedLinear.IsPlain(attention, [8, 768], [1536, 4]));
        Assert.True(LoralibMergedLinear.IsPlain(attention, [4, 768], [2304, 4]));
    }

    [Theory]
    [InlineData(new[] { 4, 5 }, new[] { 8, 2 }, new[] { false, false, false })]
    [InlineData(new[] { 4, 5 }, new[] { 8, 2 }, new[] { true, false, true, false, true })]
    [InlineData(new[] { 4, 5 }, new[] { 8, 2 }, new[] { true, false, false })]
    [InlineData(new[] { 4, 6 }, new[] { 8, 2 }, new[] { true, false, true })]
    [InlineData(new[] { 5, 5 }, new[] { 8, 2 }, new[] { true, false, true })]
    [InlineData(new[] { 4, 5 }, new[] { 8 }, new[] { true, false, true })]
    [InlineData(new[] { 0, 5 }, new[] { 8, 0 }, new[] { true, false, true })]
    public void Shapes_that_do_not_fit_are_an_error(int[] a, int[] b, bool[] enable)
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => LoralibMergedLinear.Describe(s_layer, a, b, enable, "dir/f"));
        Assert.StartsWith("dir/f: transformer.h.0.attn.c_attn: ", error.Message, StringComparison.Ordinal);
    }
}

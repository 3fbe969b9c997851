using System.Text.Json;
using Engine.Tensors;
using Engine.Transformer;
using MathNet.Numerics.LinearAlgebra;

namespace Engine.Lora.Tests;

/// <summary>PiSSA against PEFT: the split of the base, and saving what was trained as a plain adapter of the original base.</summary>
public class PissaParityTests
{
    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    [Theory]
    [InlineData("pissa")]
    [InlineData("gpt2_pissa")]
    public void A_new_adapter_splits_the_base_as_PEFT_does(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        using AdaptedModel model = ParityRun.Load(LoraParityTests.Base(json));
        string hash = model.BaseHash();
        float[] before = ParityRun.Logits(model, s_input);
        LoraConfig config = LoraConfig.Load(ParityRun.PathOf("lora", name, "adapter_init", LoraConfig.FileName));
        LoraAdapter adapter = model.Add("new", config, seed: 1);
        model.Activate("new");

        // The split changes nothing until it is trained.
        LoraParityTests.AssertLogits(name, "logits_init", model);
        Dictionary<string, float[]> expected = ParityRun.Tensors(ParityRun.PathOf("lora", name, "base_residual.safetensors"));
        Assert.Equal(expected.Keys.Order(), adapter.Layers.Select(l => $"{l.Path}.weight").Order());
        foreach (LoraLayer layer in adapter.Layers)
        {
            string key = $"{layer.Path}.weight";
            LinearModule linear = model.Base.Linears.First(l => l.Path == layer.Path);
            Tensor whole = model.Base.Parameters[key].Value;
            float[] residual = ParityRun.Floats(linear.Weight.Value);
            double tolerance = Tolerance(whole, layer.Target.Rank);
            double difference = ParityRun.MaxDifference(expected[key], residual);
            Assert.True(difference <= tolerance, $"{key}: {difference:e2} > {tolerance:e2}");
            Assert.True(ParityRun.MaxDifference(ParityRun.Floats(whole), residual) > 100 * tolerance);
        }

        Assert.Equal(hash, model.BaseHash());
        model.Remove("new");
        Assert.Equal(before, ParityRun.Logits(model, s_input));
        Assert.Equal(hash, model.BaseHash());
    }

    /// <summary>
    /// PEFT's file goes with a residual that both compute anew. PEFT's float32 SVD leaves its part of the weight as far from
    /// the exact one as <see cref="Tolerance"/> says, ten times and more beyond the rounding of a forward pass, so here the
    /// rule for logits applies and not the tight bound; from PEFT's own residual the tight one holds (LoraParityTests).
    /// </summary>
    [Theory]
    [InlineData("pissa")]
    [InlineData("gpt2_pissa")]
    public void PEFTs_adapter_is_loaded_as_PEFT_does_and_saved_as_a_plain_one_of_twice_the_rank(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        foreach (string state in (string[])["init", "final"])
        {
            using AdaptedModel model = ParityRun.Load(LoraParityTests.Base(json));
            LoraAdapter adapter = AdapterFile.Load(model, name, ParityRun.PathOf("lora", name, $"adapter_{state}"));
            model.Activate(name);
            LoraParityTests.AssertLogits(name, $"logits_{state}", model, LoraParityTests.Rule);
            float[] logits = ParityRun.Logits(model, s_input);
            using var directory = new TemporaryDirectory();
            AdapterFile.Save(adapter, directory.Path);

            using AdaptedModel plain = ParityRun.Load(LoraParityTests.Base(json));
            string hash = plain.BaseHash();
            LoraAdapter converted = AdapterFile.Load(plain, "plain", directory.Path);
            Assert.Equal(LoraInitKind.Default, converted.Config.Init.Kind);
            Assert.Equal(2 * adapter.Config.Rank, converted.Config.Rank);
            Assert.Equal(adapter.Layers.Select(l => l.Target.Scale), converted.Layers.Select(l => l.Target.Scale));
            plain.Activate("plain");
            Assert.InRange(
                ParityRun.MaxDifference(logits, ParityRun.Logits(plain, s_input)), 0, LoraParityTests.Tight * ParityRun.Scale(logits));
            Assert.Equal(hash, plain.BaseHash());
        }
    }

    /// <summary>
    /// How far PEFT's residual may lie from the exact one. A float32 SVD is exact for W + E with ‖E‖₂ ≤ p·u·σ₁, p of a few
    /// units in practice (8 here), u = 2⁻²⁴. By Wedin's theorem E turns the leading subspaces by ‖E‖/gap with
    /// gap = σ_r − σ_{r+1}, and the part they take out of W by ‖E‖ + 2·σ_r·‖E‖/gap.
    /// </summary>
    private static double Tolerance(Tensor weight, int rank)
    {
        double[] values = [.. ParityRun.Floats(weight).Select(v => (double)v)];
        double[] sigma = [.. Matrix<double>.Build.Dense(weight.Shape[1], weight.Shape[0], values).Svd(computeVectors: false).S];
        double error = 8.0 / (1 << 24) * sigma[0];
        return error * (1 + (2 * sigma[rank - 1] / (sigma[rank - 1] - sigma[rank])));
    }
}

using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>Adding, switching, removing: what it costs, what it leaves behind, what it refuses.</summary>
public class AdaptedModelTests
{
    private const string Plain = """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": false """;
    private const string Wide = """ "r": 6, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "init_lora_weights": false """;
    private const string Dora = """ "r": 4, "target_modules": ["q_proj"], "use_dora": true, "init_lora_weights": false """;
    private const string Head = """ "r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "init_lora_weights": false """;
    private const string Pissa = """ "r": 4, "target_modules": ["q_proj"], "init_lora_weights": "pissa" """;

    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    /// <summary>
    /// Switching between plain adapters that have been active before copies their A and B beside the weights and allocates no more
    /// for many layers than for few.
    /// </summary>
    [Fact]
    public void Switching_costs_the_same_whatever_the_number_of_layers()
    {
        long few = SwitchBytes("""["v_proj"]""");
        long many = SwitchBytes("\"all-linear\"");
        Assert.Equal(few, many);
        Assert.InRange(many, 0, 256); // a constant handful of enumerators at most
    }

    /// <summary>Recorded steps go through the adapter that was active then, and hold its addresses.</summary>
    [Fact]
    public void Recordings_are_void_when_what_they_go_through_has_changed()
    {
        var device = new CountedDevice();
        using AdaptedModel model = Load(device);
        Assert.True(Voids(() => model.Activate("plain")));
        Assert.False(Voids(() => model.Activate("plain")));
        Assert.True(Voids(() => model.Activate(null)));
        Assert.True(Voids(() => model.ActivateMixed(["plain"])));
        Assert.True(Voids(() => model.Merge([("plain", 1)])));
        Assert.True(Voids(model.Unmerge));
        Assert.True(Voids(() => model.Remove("plain")));

        bool Voids(Action change)
        {
            int before = device.Device.GraphGeneration;
            change();
            return device.Device.GraphGeneration != before;
        }
    }

    [Fact]
    public void Nothing_is_left_on_the_device()
    {
        var device = new CountedDevice();
        using (AdaptedModel model = Load(device))
        {
            Use(model);
        }

        Assert.Equal(0, device.LiveStorages);
        Assert.Equal(0, device.LiveBytes);

        // Disposed in the middle of things: merged (DoRA keeps the pristine weights), or with copies in place.
        foreach (string name in (string[])["dora", "plain", "head", "pissa"])
        {
            using (AdaptedModel model = Load(device))
            {
                model.Merge([(name, 1)]);
            }

            Assert.Equal(0, device.LiveStorages);
            using (AdaptedModel model = Load(device))
            {
                model.Activate(name);
            }

            Assert.Equal(0, device.LiveStorages);
        }
    }

    [Fact]
    public void Removing_an_adapter_frees_it_and_restores_the_base()
    {
        var device = new CountedDevice();
        using AdaptedModel model = ParityRun.Load("arch/llama", device: device);
        string hash = model.BaseHash();
        float[] alone = ParityRun.Logits(model, s_input);
        foreach (string config in (string[])[Plain, Dora, Head, Pissa])
        {
            // The first time may lay weights out anew, which stays.
            AddAndRemove(config);
            long before = device.LiveStorages;
            AddAndRemove(config);
            Assert.Empty(model.Adapters);
            Assert.Null(model.Active);
            Assert.Equal(before, device.LiveStorages);
            Assert.Equal(hash, model.BaseHash());
            Assert.Equal(alone, ParityRun.Logits(model, s_input));
        }

        void AddAndRemove(string config)
        {
            model.Add("x", Fixture.Config(config), seed: 1);
            model.Activate("x");
            model.Remove("x");
        }
    }

    /// <summary>What an adapter brings of its own is taken from the base, not from the adapter that happens to be active.</summary>
    [Fact]
    public void A_new_adapter_starts_from_the_base_whatever_is_active()
    {
        using AdaptedModel model = ParityRun.Load("arch/llama");
        float[] head = ParityRun.Floats(model.Base.Parameters["lm_head.weight"].Value);
        Variable copy = model.Add("first", Fixture.Config(Head), seed: 1).Copies["lm_head.weight"];
        copy.Value.Clear();
        model.Activate("first");
        Assert.Equal(head, ParityRun.Floats(model.Add("second", Fixture.Config(Head), seed: 1).Copies["lm_head.weight"].Value));
    }

    /// <summary>PiSSA takes its share out of the weights only while its adapter is active.</summary>
    [Fact]
    public void Pissa_leaves_the_base_and_other_adapters_alone()
    {
        using AdaptedModel model = ParityRun.Load("arch/llama");
        string hash = model.BaseHash();
        float[] alone = ParityRun.Logits(model, s_input);
        model.Add("plain", Fixture.Config(Plain), seed: 1);
        model.Activate("plain");
        float[] plain = ParityRun.Logits(model, s_input);
        foreach (string name in (string[])["p1", "p2"])
        {
            model.Add(name, Fixture.Config(Pissa), seed: 1);
            model.Activate(name);
            ParityRun.Train(model, model.Train(name), name == "p1" ? 2 : 4, 1e-2);
        }

        float[] second = ParityRun.Logits(model, s_input);
        Assert.Equal(hash, model.BaseHash());
        model.Activate("p1");
        Assert.NotEqual(second, ParityRun.Logits(model, s_input));
        model.Activate(null);
        Assert.Equal(alone, ParityRun.Logits(model, s_input));
        model.Activate("plain");
        Assert.Equal(plain, ParityRun.Logits(model, s_input));
        model.Remove("p1");
        model.Activate("p2");
        Assert.Equal(second, ParityRun.Logits(model, s_input));
        model.Merge([("p2", 1)]);
        Assert.InRange(ParityRun.MaxDifference(second, ParityRun.Logits(model, s_input)), 0, 7e-6 * ParityRun.Scale(second));
        model.Unmerge();
        Assert.Equal(hash, model.BaseHash());
        Assert.Equal(alone, ParityRun.Logits(model, s_input));
    }

    [Fact]
    public void Training_an_adapter_leaves_the_others_and_the_base_as_they_are()
    {
        using AdaptedModel model = ParityRun.Load("arch/llama");
        string hash = model.BaseHash();
        LoraAdapter other = model.Add("other", Fixture.Config(Plain), seed: 1);
        LoraAdapter trained = model.Add("trained", Fixture.Config(Plain), seed: 2);
        float[] before = [.. other.Parameters.SelectMany(p => ParityRun.Floats(p.Value))];
        float[] start = [.. trained.Parameters.SelectMany(p => ParityRun.Floats(p.Value))];
        ParityRun.Train(model, model.Train("trained"), 2, 1e-2);
        Assert.Equal(before, other.Parameters.SelectMany(p => ParityRun.Floats(p.Value)));
        Assert.NotEqual(start, trained.Parameters.SelectMany(p => ParityRun.Floats(p.Value)));
        Assert.Equal(hash, model.BaseHash());
        Assert.All(model.Base.Parameters.Values, p => Assert.Null(p.Gradient));
    }

    private static AdaptedModel Load(Device device)
    {
        AdaptedModel model = ParityRun.Load("arch/llama", device: device);
        model.Add("plain", Fixture.Config(Plain), seed: 1);
        model.Add("wide", Fixture.Config(Wide), seed: 2);
        model.Add("dora", Fixture.Config(Dora), seed: 3);
        model.Add("head", Fixture.Config(Head), seed: 4);
        model.Add("pissa", Fixture.Config(Pissa), seed: 5);
        return model;
    }

    private static void Use(AdaptedModel model)
    {
        using var directory = new TemporaryDirectory();
        foreach (string name in model.Adapters.Keys.ToArray())
        {
            ParityRun.Train(model, model.Train(name), 2, 1e-3);
            model.Merge([(name, 1)]);
            ParityRun.Logits(model, s_input);
            model.SaveMerged(directory.File(name), source: null);
            model.Unmerge();
            AdapterFile.Save(model.Get(name), directory.File($"{name}-adapter"));
            AdapterFile.Load(model, $"{name}2", directory.File($"{name}-adapter"));
        }

        model.Combine("cat", [("plain", 1), ("wide", 0.5)], CombinationType.Cat);
        model.Combine("linear", [("plain", 1), ("plain2", 0.5)], CombinationType.Linear);
        model.ActivateMixed(["plain", "cat"]);
        ParityRun.Logits(model, s_input, [1, 0]);
        model.Remove("cat");
        Assert.Throws<EngineDataException>(() => model.Combine("bad", [("plain", 1), ("wide", 1)], CombinationType.Linear));
        Assert.Throws<EngineDataException>(() => model.Add("bad", Fixture.Config(""" "target_modules": ["nothing"] """), seed: 1));
        ParityRun.Train(model, model.TrainBase(), 1, 1e-3);
    }

    private static long SwitchBytes(string targets)
    {
        using AdaptedModel model = ParityRun.Load("arch/llama");
        model.Add("a", Fixture.Config($$""" "r": 2, "target_modules": {{targets}} """), seed: 1);
        model.Add("b", Fixture.Config($$""" "r": 2, "target_modules": {{targets}} """), seed: 2);
        Switch();
        return Allocated.By(Switch);

        void Switch()
        {
            model.Activate("a");
            model.Activate("b");
        }
    }
}

using System.Text;
using Engine.Tensors;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class TrainingOptionsTests
{
    private static readonly TrainingOptions s_minimal = new() { Model = "m", Data = "d.jsonl", Out = "o" };

    /// <summary>Options that are all different from the defaults.</summary>
    private static readonly TrainingOptions s_everything = new()
    {
        Model = "m",
        Data = "d",
        Out = "o",
        Eval = "e",
        Adapter = "a",
        Metrics = "x",
        Method = TrainingMethod.Full,
        Rank = 2,
        Alpha = 3.5,
        Dropout = 0.25,
        Targets = NamesOrPattern.FromNames("q_proj", "v_proj"),
        PeftConfig = "p",
        LearningRate = 2e-5,
        WeightDecay = 0.5,
        Beta1 = 0.8,
        Beta2 = 0.95,
        Epsilon = 1e-6,
        Clip = 1,
        Schedule = ScheduleKind.Cosine,
        Warmup = 7,
        Epochs = 3,
        Steps = 50,
        BatchSize = 2,
        Accumulate = 4,
        MaxLength = 128,
        Pack = true,
        Truncate = true,
        Seed = long.MaxValue,
        Shuffle = false,
        CheckpointEvery = 10,
        Resume = true,
        GradientCheckpointing = true,
        MaxMemory = "20GiB",
        DType = DType.BF16,
        EvalEvery = 5,
        Patience = 2,
    };

    /// <summary>torch.optim.AdamW: lr 1e-3, betas (0.9, 0.999), eps 1e-8, weight decay 1e-2.</summary>
    [Fact]
    public void The_optimizers_defaults_are_pytorchs()
    {
        var options = new TrainingOptions();
        Assert.Equal((1e-3, 0.9, 0.999, 1e-8, 0.01), (options.LearningRate, options.Beta1, options.Beta2, options.Epsilon, options.WeightDecay));
        Assert.Null(options.Clip);
        Assert.Equal(ScheduleKind.Constant, options.Schedule);
        Assert.Equal(0, options.Warmup);
    }

    /// <summary>Every property has an option, is written and read back.</summary>
    [Fact]
    public void Options_come_back_from_json()
    {
        foreach (TrainingOption option in TrainingOptions.All)
        {
            Assert.NotEqual(option.ToJson(new TrainingOptions()), option.ToJson(s_everything));
        }

        // Counted by reflection, which only the test may use: an option left out of the list would be lost in files.
        int properties = typeof(TrainingOptions).GetProperties().Count(p => p.CanWrite && p.GetMethod is { IsStatic: false });
        Assert.Equal(properties, TrainingOptions.All.Count);
        string json = s_everything.ToJson();
        TrainingOptions back = Parse(json);
        Assert.Equal(s_everything, back with { Targets = s_everything.Targets });
        Assert.Equal(json, back.ToJson());
        Assert.Equal(new TrainingOptions(), Parse(new TrainingOptions().ToJson()));
    }

    [Fact]
    public void A_file_overrides_only_what_it_holds()
    {
        string path = Path.Combine(Directory.CreateTempSubdirectory("engine-options-").FullName, "train.json");
        try
        {
            File.WriteAllText(path, """{"lr": 3e-4, "targets": "q_proj,k_proj", "batch-size": 4, "clip": null, "schedule": "linear"}""");
            TrainingOptions options = TrainingOptions.Load(path, s_minimal with { Clip = 1, Seed = 5 });
            Assert.Equal(3e-4, options.LearningRate);
            Assert.Equal(["q_proj", "k_proj"], options.Targets!.Names!);
            Assert.Equal(4, options.BatchSize);
            Assert.Null(options.Clip);
            Assert.Equal(5, options.Seed);
            Assert.Equal("m", options.Model);
            options.Save(path);
            Assert.Equal(options.ToJson(), TrainingOptions.Load(path).ToJson());
        }
        finally
        {
            Directory.Delete(Path.GetDirectoryName(path)!, recursive: true);
        }
    }

    [Theory]
    [InlineData("""{"learning_rate": 1}""", "unknown field \"learning_rate\"")]
    [InlineData("""{"wieght_decay": 1}""", "did you mean \"weight_decay\"?")]
    [InlineData("""{"batchsize": 1}""", "did you mean \"batch_size\"?")]
    [InlineData("""{"zzzzzzzz": 1}""", "expected one of model, data")]
    [InlineData("""{"lr": "fast"}""", "field \"lr\" is \"fast\"; expected a number")]
    [InlineData("""{"lr": null}""", "field \"lr\" is null")]
    [InlineData("""{"batch_size": 1.5}""", "field \"batch_size\" is 1.5; expected an integer")]
    [InlineData("""{"schedule": "sine"}""", "expected \"constant\", \"linear\", \"cosine\"")]
    [InlineData("""{"dtype": "int8"}""", "expected null, \"f32\", \"bf16\", \"f16\"")]
    [InlineData("""{"pack": "yes"}""", "expected true or false")]
    [InlineData("""{"targets": 3}""", "field \"targets\" is 3")]
    [InlineData("""{"seed": 1e30}""", "field \"seed\"")]
    [InlineData("""{"model": 3}""", "expected a string or null")]
    [InlineData("""{"lr": 1, "lr": 2}""", "not valid JSON")]
    [InlineData("[]", "expected a JSON object")]
    public void A_file_that_is_wrong_is_an_error_that_says_so(string json, string message)
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => Parse(json));
        Assert.StartsWith("train.json: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, TrainingOptions> Invalid() => new()
    {
        { "\"model\" is missing", s_minimal with { Model = null } },
        { "\"data\" is missing", s_minimal with { Data = " " } },
        { "\"out\" is missing", s_minimal with { Out = null } },
        { "\"rank\" is 0", s_minimal with { Rank = 0 } },
        { "\"alpha\" is 0", s_minimal with { Alpha = 0 } },
        { "\"dropout\" is 1", s_minimal with { Dropout = 1 } },
        { "\"lr\" is -1", s_minimal with { LearningRate = -1 } },
        { "\"lr\" is NaN", s_minimal with { LearningRate = double.NaN } },
        { "\"weight_decay\" is -0.1", s_minimal with { WeightDecay = -0.1 } },
        { "\"beta1\" is 1", s_minimal with { Beta1 = 1 } },
        { "\"beta2\" is -1", s_minimal with { Beta2 = -1 } },
        { "\"eps\" is -1", s_minimal with { Epsilon = -1 } },
        { "\"clip\" is 0", s_minimal with { Clip = 0 } },
        { "\"warmup\" is -1", s_minimal with { Warmup = -1 } },
        { "\"epochs\" is 0", s_minimal with { Epochs = 0 } },
        { "\"steps\" is 0", s_minimal with { Steps = 0 } },
        { "\"batch_size\" is 0", s_minimal with { BatchSize = 0 } },
        { "\"accumulate\" is 0", s_minimal with { Accumulate = 0 } },
        { "\"max_length\" is 1", s_minimal with { MaxLength = 1 } },
        { "\"checkpoint_every\" is 0", s_minimal with { CheckpointEvery = 0 } },
        { "\"eval_every\" is 0", s_minimal with { Eval = "e", EvalEvery = 0 } },
        { "\"patience\" is 0", s_minimal with { Eval = "e", Patience = 0 } },
        { "\"dtype\" is i32", s_minimal with { DType = DType.I32 } },
        { "\"epochs\" and \"steps\"", s_minimal with { Epochs = 1, Steps = 1 } },
        { "\"eval_every\" cannot", s_minimal with { EvalEvery = 1 } },
        { "\"patience\" cannot", s_minimal with { Patience = 1 } },
        { "\"warmup\" is 10; expected fewer than the 10 steps", s_minimal with { Warmup = 10, Steps = 10, Schedule = ScheduleKind.Linear } },
        { "\"adapter\" and \"peft_config\"", s_minimal with { Adapter = "a", PeftConfig = "p" } },
        { "\"rank\" and \"adapter\"", s_minimal with { Adapter = "a", Rank = 8 } },
        { "\"targets\" and \"peft_config\"", s_minimal with { PeftConfig = "p", Targets = NamesOrPattern.AllLinear } },
        { "\"dropout\" and \"method\"", s_minimal with { Method = TrainingMethod.Full, Dropout = 0.1 } },
        { "\"peft_config\" and \"method\"", s_minimal with { Method = TrainingMethod.Full, PeftConfig = "p" } },
        { "\"adapter\" and \"method\"", s_minimal with { Method = TrainingMethod.Full, Adapter = "a" } },
    };

    [Theory]
    [MemberData(nameof(Invalid), DisableDiscoveryEnumeration = true)]
    public void Invalid_options_are_errors_that_name_them(string message, TrainingOptions options) =>
        Assert.Contains(message, Assert.Throws<EngineDataException>(options.Validate).Message, StringComparison.Ordinal);

    [Fact]
    public void Valid_options_pass()
    {
        s_minimal.Validate();
        (s_minimal with { Adapter = "a", Eval = "e", EvalEvery = 2, Patience = 1, Steps = 20, Warmup = 5, Schedule = ScheduleKind.Linear }).Validate();
        (s_minimal with { Method = TrainingMethod.Full, DType = DType.F32 }).Validate();
    }

    [Fact]
    public void A_resumed_run_must_have_the_options_that_decide_the_result()
    {
        TrainingOptions saved = s_minimal with { Steps = 10, Targets = NamesOrPattern.FromNames("q_proj", "v_proj") };
        (saved with { Resume = true, Out = "elsewhere", CheckpointEvery = 3, GradientCheckpointing = true, Metrics = "x", EvalEvery = 1 })
            .RequireResumable(saved, "c");
        (saved with { Steps = 20 }).RequireResumable(saved, "c");
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => (saved with { LearningRate = 1e-4, Seed = 1, Targets = NamesOrPattern.AllLinear }).RequireResumable(saved, "dir/checkpoint"));
        Assert.StartsWith("dir/checkpoint: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(
            "targets was [ \"q_proj\", \"v_proj\" ], is \"all-linear\"; lr was 0.001, is 0.0001; seed was 0, is 1;", error.Message,
            StringComparison.Ordinal);
    }

    /// <summary>Another length changes a falling schedule; evaluation matters when a run stops by it.</summary>
    [Fact]
    public void What_decides_the_result_depends_on_schedule_and_patience()
    {
        TrainingOptions saved = s_minimal with { Steps = 10, Schedule = ScheduleKind.Cosine };
        Assert.Throws<EngineDataException>(() => (saved with { Steps = 20 }).RequireResumable(saved, "c"));
        TrainingOptions stopping = s_minimal with { Eval = "e", EvalEvery = 2, Patience = 3 };
        Assert.Throws<EngineDataException>(() => (stopping with { EvalEvery = 4 }).RequireResumable(stopping, "c"));
        Assert.Throws<EngineDataException>(() => (stopping with { Patience = null }).RequireResumable(stopping, "c"));
    }

    [Fact]
    public void A_new_adapters_configuration_follows_the_options()
    {
        LoraConfig config = (s_minimal with { Rank = 4, Alpha = 16, Dropout = 0.1, Targets = NamesOrPattern.AllLinear }).ToLoraConfig();
        Assert.Equal((4, 16.0, 0.1, "m", "CAUSAL_LM"), (config.Rank, config.Alpha, config.Dropout, config.BaseModelNameOrPath, config.TaskType));
        Assert.True(config.TargetModules!.IsAllLinear);
        LoraConfig defaults = s_minimal.ToLoraConfig();
        Assert.Equal((8, 8.0, 0.0), (defaults.Rank, defaults.Alpha, defaults.Dropout));
        Assert.Null(defaults.TargetModules);
        string file = Fixture.PathOf("adapter_config.list.json");
        Assert.Equal(LoraConfig.Load(file), (s_minimal with { PeftConfig = file }).ToLoraConfig());
    }

    [Fact]
    public void One_way_to_give_the_length_replaces_the_other()
    {
        Assert.Equal((null, 5), Length((s_minimal with { Epochs = 3 }).WithLength(null, 5)));
        Assert.Equal((2, null), Length((s_minimal with { Steps = 3 }).WithLength(2, null)));
        Assert.Equal((3, null), Length((s_minimal with { Epochs = 3 }).WithLength(null, null)));

        static (int?, int?) Length(TrainingOptions options) => (options.Epochs, options.Steps);
    }

    [Fact]
    public void Command_line_names_follow_the_fields()
    {
        Assert.Equal("--weight-decay", TrainingOptions.Find("weight_decay", "x").CommandLineName);
        Assert.Equal(TrainingOptions.All.Count, TrainingOptions.All.Select(o => o.Name).Distinct().Count());
    }

    private static TrainingOptions Parse(string json) => TrainingOptions.Parse(Encoding.UTF8.GetBytes(json), "train.json");
}

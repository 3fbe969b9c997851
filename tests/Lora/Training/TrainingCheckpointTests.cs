using System.Text.Json.Nodes;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>Checkpoints: whole or absent, and refused where they are damaged or belong to another run.</summary>
public sealed class TrainingCheckpointTests : IDisposable
{
    private static readonly Example[] s_examples = Trial.Examples(12);
    private static readonly TrainingOptions s_options = new() { Steps = 6, BatchSize = 4, LearningRate = 5e-3, Seed = 3 };

    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void They_are_written_at_their_steps_and_the_latest_is_found()
    {
        using var trial = new Trial(s_options with { CheckpointEvery = 2 }, s_examples, output: _directory.Path);
        trial.Go();
        Assert.Equal([_directory.File("checkpoint-2"), _directory.File("checkpoint-4")], trial.Checkpoints); // the end writes the result
        Directory.CreateDirectory(_directory.File("checkpoint-10.12ab.tmp"));
        Directory.CreateDirectory(_directory.File("checkpoint-9"));
        Directory.CreateDirectory(_directory.File("checkpoint-x"));
        Assert.Equal(_directory.File("checkpoint-4"), TrainingCheckpoint.Latest(_directory.Path));
        Assert.Null(TrainingCheckpoint.Latest(_directory.File("checkpoint-9")));
        Assert.Null(TrainingCheckpoint.Latest(_directory.File("nowhere")));
    }

    [Fact]
    public void Steps_are_compared_as_numbers()
    {
        using var trial = new Trial(s_options with { Steps = 11, CheckpointEvery = 1 }, s_examples, output: _directory.Path);
        trial.Go();
        Assert.Equal(_directory.File("checkpoint-10"), TrainingCheckpoint.Latest(_directory.Path));
    }

    [Fact]
    public void A_checkpoint_of_the_same_step_is_replaced()
    {
        using var trial = new Trial(s_options, s_examples);
        string first = TrainingCheckpoint.Save(_directory.Path, trial.Run, s_options, d => File.WriteAllText(Path.Combine(d, "old"), ""));
        Assert.True(File.Exists(Path.Combine(first, "old")));
        string second = TrainingCheckpoint.Save(_directory.Path, trial.Run, s_options, d => File.WriteAllText(Path.Combine(d, "new"), ""));
        Assert.Equal(first, second);
        Assert.Equal(["new", "state.safetensors", "trainer_state.json"], Directory.GetFiles(second).Select(f => Path.GetFileName(f)).Order());
    }

    [Fact]
    public void A_failure_leaves_the_old_one_and_nothing_else()
    {
        using var trial = new Trial(s_options, s_examples);
        TrainingCheckpoint.Save(_directory.Path, trial.Run, s_options);
        foreach (Exception failure in (Exception[])[new IOException("disk full"), new EngineDataException("bad"), new InvalidOperationException("bug")])
        {
            Exception? caught = Record.Exception(() => TrainingCheckpoint.Save(_directory.Path, trial.Run, s_options, _ => throw failure));
            Assert.NotNull(caught);
            Assert.Contains(failure.Message, caught.Message, StringComparison.Ordinal);
            Assert.Equal(failure is InvalidOperationException, caught is InvalidOperationException);
            Assert.Equal(["checkpoint-0"], Directory.GetFileSystemEntries(_directory.Path).Select(f => Path.GetFileName(f)));
        }

        TrainingCheckpoint.Load(_directory.File("checkpoint-0"), trial.Run, s_options);
        string file = _directory.Write("file", "");
        Assert.Contains(file, Assert.Throws<EngineDataException>(() => TrainingCheckpoint.Save(file, trial.Run, s_options)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Other_options_are_refused_by_name()
    {
        string checkpoint = Checkpoint();
        foreach ((TrainingOptions other, string says) in ((TrainingOptions, string)[])[
            (s_options with { LearningRate = 1e-3 }, "lr"), (s_options with { Seed = 4 }, "seed"), (s_options with { BatchSize = 2 }, "batch_size"),
            (s_options with { Shuffle = false }, "shuffle"), (s_options with { WeightDecay = 0 }, "weight_decay")])
        {
            AssertRefused(checkpoint, other, says, "trainer_state.json");
        }

        using var longer = new Trial(s_options with { Steps = 8 }, s_examples);
        TrainingCheckpoint.Load(checkpoint, longer.Run, longer.Options); // a constant rate does not depend on the length
        Assert.Equal(2, longer.Run.StepsDone);
    }

    [Theory]
    [InlineData(""" "r": 2, "lora_alpha": 8, "target_modules": "all-linear" """, "lora_A.weight", "[4, 32]", "[2,")]
    [InlineData(""" "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "lm_head"] """, "lm_head", "", "")]
    [InlineData(""" "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"] """, "lora_A.weight", "", "")]
    [InlineData(""" "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "use_dora": true """, "lora_magnitude_vector", "", "")]
    public void Other_parameters_are_refused(string config, string tensor, string stored, string needed)
    {
        string checkpoint = Checkpoint();
        using var other = new Trial(s_options, s_examples, config);
        byte[] before = other.Bits();
        string message = Assert.Throws<EngineDataException>(() => TrainingCheckpoint.Load(checkpoint, other.Run, s_options)).Message;
        Assert.All((string[])["state.safetensors", tensor, stored, needed], s => Assert.Contains(s, message, StringComparison.Ordinal));
        Assert.Equal(before, other.Bits());
        Assert.Equal(0, other.Run.StepsDone);
    }

    [Fact]
    public void A_shape_of_the_same_size_is_refused()
    {
        // A [32, 4] and its transpose have as many bytes.
        string checkpoint = Checkpoint();
        string path = Path.Combine(checkpoint, "state.safetensors");
        var entries = new List<Transformer.Safetensors.SafetensorsEntry>();
        Dictionary<string, string> metadata;
        using (var file = Transformer.Safetensors.SafetensorsFile.Open(path))
        {
            metadata = new Dictionary<string, string>(file.Metadata);
            foreach (Transformer.Safetensors.SafetensorsTensor tensor in file.Tensors.Values)
            {
                long[] shape = tensor.Name == "model.layers.0.self_attn.q_proj.lora_A.weight" ? [32, 4] : tensor.Shape.ToArray();
                entries.Add(Transformer.Safetensors.SafetensorsEntry.FromBytes(tensor.Name, tensor.DType, shape, tensor.Data.ToArray()));
            }
        }

        Transformer.Safetensors.SafetensorsWriter.Write(path, entries, metadata);
        AssertRefused(checkpoint, s_options, path, "q_proj.lora_A.weight", "[32, 4]", "[4, 32]");
    }

    [Fact]
    public void Damaged_files_are_refused_by_name()
    {
        string state = Path.Combine(Checkpoint(), "state.safetensors");
        byte[] bytes = File.ReadAllBytes(state);
        File.WriteAllBytes(state, bytes[..^5]);
        AssertRefused(Path.GetDirectoryName(state)!, s_options, state);
        File.WriteAllBytes(state, []);
        AssertRefused(Path.GetDirectoryName(state)!, s_options, state);
        File.Delete(state);
        AssertRefused(Path.GetDirectoryName(state)!, s_options, state);
        File.WriteAllBytes(state, bytes);

        string info = Path.Combine(Path.GetDirectoryName(state)!, "trainer_state.json");
        string text = File.ReadAllText(info);
        foreach (string damaged in (string[])[
            "", "{", "[]", "{}", text[..(text.Length / 2)], text.Replace("\"step\": 2", "\"step\": \"two\"", StringComparison.Ordinal),
            text.Replace("\"step\": 2", "\"step\": 3", StringComparison.Ordinal), text.Replace("\"lr\"", "\"learning\"", StringComparison.Ordinal)])
        {
            Assert.NotEqual(text, damaged);
            File.WriteAllText(info, damaged);
            AssertRefused(Path.GetDirectoryName(state)!, s_options, info);
        }

        File.Delete(info);
        AssertRefused(Path.GetDirectoryName(state)!, s_options, info);
        File.WriteAllText(info, text);
        using var trial = new Trial(s_options, s_examples);
        TrainingCheckpoint.Load(Path.GetDirectoryName(state)!, trial.Run, s_options);
        Assert.Equal(2, trial.Run.StepsDone);
    }

    [Fact]
    public void Early_stopping_is_part_of_it()
    {
        using var trial = new Trial(s_options, s_examples);
        trial.Run.EarlyStopping = new EarlyStopping(0.1 + 0.2, 3);
        string checkpoint = TrainingCheckpoint.Save(_directory.Path, trial.Run, s_options);
        using var again = new Trial(s_options, s_examples);
        TrainingCheckpoint.Load(checkpoint, again.Run, s_options);
        Assert.Equal(trial.Run.EarlyStopping, again.Run.EarlyStopping);
        JsonNode json = JsonNode.Parse(File.ReadAllText(Path.Combine(checkpoint, "trainer_state.json")))!;
        Assert.Equal(0, (int)json["step"]!);
    }

    private string Checkpoint()
    {
        using var trial = new Trial(s_options, s_examples, output: _directory.Path) { CancelAfter = 2 };
        trial.Go();
        return _directory.File("checkpoint-2");
    }

    private static void AssertRefused(string checkpoint, TrainingOptions options, params string[] says)
    {
        using var trial = new Trial(options, s_examples);
        string message = Assert.Throws<EngineDataException>(() => TrainingCheckpoint.Load(checkpoint, trial.Run, options)).Message;
        Assert.All(says, s => Assert.Contains(s, message, StringComparison.Ordinal));
    }
}

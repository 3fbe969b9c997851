using Engine.Cli.Demo;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Cli.Tests.Demo;

public sealed class BaseRecipeTests
{
    [Fact]
    public void The_embedded_model_has_the_recipes_shape_and_fits_its_size()
    {
        string directory = Directory.CreateTempSubdirectory("engine-test-").FullName;
        try
        {
            DemoModel.Unpack(directory);
            using DecoderModel model = DecoderModel.Load(directory, null, Device.Cpu);
            Assert.Equal(DType.BF16, model.DType);
            Assert.Equal(1_820_352, model.ParameterCount);
            Assert.Equal(
                BaseRecipe.Config with { StorageDType = DType.BF16, OriginalJson = default, EosTokenIds = [] },
                model.Config with { OriginalJson = default, EosTokenIds = [] });
            Assert.Equal(BaseRecipe.Config.EosTokenIds, model.Config.EosTokenIds);
            long bytes = Directory.EnumerateFiles(directory).Sum(f => new FileInfo(f).Length);
            Assert.InRange(bytes, 1, 8L << 20);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void The_recipe_makes_the_embedded_vocabulary_again()
    {
        string directory = Directory.CreateTempSubdirectory("engine-test-").FullName;
        try
        {
            BaseRecipe.Vocabulary(directory);
            using Stream embedded = DemoModel.Open("tokenizer.json");
            using var bytes = new MemoryStream();
            embedded.CopyTo(bytes);
            Assert.Equal(bytes.ToArray(), File.ReadAllBytes(Path.Combine(directory, "tokenizer.json")));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void Training_lowers_the_loss_and_goes_on_from_its_checkpoint_with_the_same_bits()
    {
        string whole = Directory.CreateTempSubdirectory("engine-test-").FullName;
        string parts = Directory.CreateTempSubdirectory("engine-test-").FullName;
        try
        {
            CopyVocabulary(whole);
            CopyVocabulary(parts);
            var losses = new List<double>();
            var recipe = new BaseRecipe(3);
            Assert.True(recipe.Run(whole, Device.Cpu, () => false, (_, loss, _) => losses.Add(loss)));
            Assert.True(losses[2] < losses[0], string.Join(", ", losses));

            int done = 0;
            Assert.False(recipe.Run(parts, Device.Cpu, () => done == 1, (step, _, _) => done = step));
            Assert.Equal(1, done);
            Assert.True(recipe.Run(parts, Device.Cpu, () => false, (step, _, _) => done = step));
            Assert.Equal(3, done);
            Assert.Equal(
                File.ReadAllBytes(Path.Combine(whole, "model.safetensors")), File.ReadAllBytes(Path.Combine(parts, "model.safetensors")));
        }
        finally
        {
            Directory.Delete(whole, recursive: true);
            Directory.Delete(parts, recursive: true);
        }
    }

    private static void CopyVocabulary(string directory)
    {
        foreach (string file in new[] { "tokenizer.json", "tokenizer_config.json" })
        {
            using Stream embedded = DemoModel.Open(file);
            using FileStream target = File.Create(Path.Combine(directory, file));
            embedded.CopyTo(target);
        }
    }
}

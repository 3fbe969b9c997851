using Engine.Tensors;
using Engine.Transformer.Tests.Parity;

namespace Engine.Transformer.Tests.Generation;

/// <summary>For tests that count live memory: they run beside no other test.</summary>
[CollectionDefinition(nameof(GenerationLeakTests), DisableParallelization = true)]
public sealed class GenerationLeakCollection
{
}

[Collection(nameof(GenerationLeakTests))]
public class GenerationLeakTests
{
    [Theory]
    [InlineData("llama")]
    [InlineData("gpt2")]
    public void Nothing_is_left_when_rows_end_or_generation_is_cancelled(string name)
    {
        long empty = TestDevice.Current.LiveStorages;
        using (DecoderModel model = DecoderModel.Load(Path.Combine(ArchitectureFixture.Root, name), DType.F32, TestDevice.Current))
        {
            var generator = new Generator(model);
            GenerationRequest[] requests = [.. Enumerable.Range(1, 5).Select(i => new GenerationRequest([i, 2 * i]) { MaxNewTokens = 2 * i })];
            generator.Generate(requests, new GenerationOptions());
            long loaded = TestDevice.Current.LiveStorages;
            generator.Generate(requests, new GenerationOptions());
            Assert.Equal(loaded, TestDevice.Current.LiveStorages);
            using var source = new CancellationTokenSource();
            Assert.Throws<OperationCanceledException>(
                () => generator.Generate(requests, new GenerationOptions(), _ => source.Cancel(), source.Token));
            Assert.Equal(loaded, TestDevice.Current.LiveStorages);
            foreach (GeneratedToken token in generator.Stream(requests, new GenerationOptions()))
            {
                if (token.Finish is not null)
                {
                    break;
                }
            }

            Assert.Equal(loaded, TestDevice.Current.LiveStorages);
            Assert.Throws<EngineDataException>(() => generator.Generate([new GenerationRequest([1]), new GenerationRequest([])], new GenerationOptions()));
            Assert.Equal(loaded, TestDevice.Current.LiveStorages);
        }

        Assert.Equal(empty, TestDevice.Current.LiveStorages);
    }
}

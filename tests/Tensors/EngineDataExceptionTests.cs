namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class EngineDataExceptionTests
{
    [Fact]
    public void Carries_the_message_and_the_cause()
    {
        var cause = new FormatException("x");
        var error = new EngineDataException("config.json: bad", cause);
        Assert.Equal("config.json: bad", error.Message);
        Assert.Same(cause, error.InnerException);
        Assert.Equal("only this", new EngineDataException("only this").Message);
        Assert.NotEmpty(new EngineDataException().Message);
    }
}

using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// Shares of what a norm's result can be formed from again. The result carries them until it is disposed; an op that takes shares of
/// its own need not keep the result for its backward.
/// </summary>
internal sealed class NormedSource : IDisposable
{
    /// <summary>Takes the shares.</summary>
    public NormedSource(NormedInput input) => Input = Map(input, static tensor => tensor.Share());

    /// <summary>The shares; they stay the source's.</summary>
    public NormedInput Input { get; }

    /// <summary>The same with other tensors in the places of those given.</summary>
    public static NormedInput Map(NormedInput input, Func<Tensor, Tensor> map) => new(
        map(input.X),
        map(input.Weight),
        input.Bias is null ? null : map(input.Bias),
        input.Mean is null ? null : map(input.Mean),
        map(input.Rstd),
        input.Epsilon);

    /// <inheritdoc/>
    public void Dispose()
    {
        Input.X.Dispose();
        Input.Weight.Dispose();
        Input.Bias?.Dispose();
        Input.Mean?.Dispose();
        Input.Rstd.Dispose();
    }
}

namespace Engine.Autograd.Tests.Gradients;

/// <summary>One op with its inputs, float64 (float32 on a GPU), on a device whose storages are counted so that leaks show.</summary>
/// <param name="Device">Where everything is.</param>
/// <param name="Function">The op, with whatever it needs around it.</param>
/// <param name="Inputs">Trainable leaves.</param>
/// <param name="Constants">What the function uses beside them.</param>
internal sealed record GradientProblem(
    CountedDevice Device, Func<Tape, Variable[], Variable> Function, Variable[] Inputs, params IDisposable[] Constants) : IDisposable
{
    public void Dispose()
    {
        foreach (Variable input in Inputs)
        {
            input.Dispose();
        }

        foreach (IDisposable constant in Constants)
        {
            constant.Dispose();
        }
    }
}

/// <summary>A gradient check of one op under one set of circumstances.</summary>
/// <param name="Op">The method's name in <see cref="Ops"/>.</param>
/// <param name="Circumstances">What distinguishes this case from the op's others.</param>
/// <param name="Create">Makes inputs and function on a device.</param>
/// <param name="WithoutInfluence">Inputs on which the result does not depend: their gradient is 0.</param>
internal sealed record GradientCase(
    string Op, string Circumstances, Func<CountedDevice, GradientProblem> Create, params int[] WithoutInfluence)
{
    public string Name => Circumstances.Length == 0 ? Op : $"{Op}, {Circumstances}";
}

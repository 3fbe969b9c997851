using Engine.Autograd;

namespace Engine.Transformer;

/// <summary>
/// The hidden states between the norms of a pass. What a layer adds waits for the norm that reads the sum, so that addition and
/// norm are one pass over memory.
/// </summary>
internal sealed class ResidualStream : IDisposable
{
    private readonly Variable? _borrowed;
    private Variable? _x;
    private Variable? _branch;

    private ResidualStream(Variable x, bool borrowed) => (_x, _borrowed) = (x, borrowed ? x : null);

    /// <summary>A stream that begins with x [R, hidden] and takes it over.</summary>
    public static ResidualStream From(Variable x) => new(x, borrowed: false);

    /// <summary>A stream that begins with x [R, hidden], which stays the caller's.</summary>
    public static ResidualStream Over(Variable x) => new(x, borrowed: true);

    /// <summary>The states normalised; before that, what was added last is added.</summary>
    public Variable Norm(Tape tape, NormModule norm, int border = 0)
    {
        if (_branch is null)
        {
            return norm.Forward(tape, _x!, border);
        }

        (Variable sum, Variable normed) = norm.ForwardOfSum(tape, _x!, _branch, border);
        Put(sum);
        return normed;
    }

    /// <summary>Adds a branch [R, hidden] to the states, and takes it over. A norm has read what was added before.</summary>
    public void Add(Variable branch)
    {
        if (_branch is not null)
        {
            branch.Dispose();
            throw new InvalidOperationException("no norm has read what was added to the residual stream before");
        }

        _branch = branch;
    }

    /// <summary>Takes the states out; the caller disposes them.</summary>
    public Variable Take(Tape tape)
    {
        if (_branch is not null)
        {
            Put(tape.Add(_x!, _branch));
        }

        Variable x = _x!;
        _x = null;
        return x;
    }

    /// <summary>Takes new states over in place of what there was.</summary>
    public void Put(Variable x)
    {
        Dispose();
        _x = x;
    }

    /// <summary>Gives up the states and what was to be added.</summary>
    public void Dispose()
    {
        if (!ReferenceEquals(_x, _borrowed))
        {
            _x?.Dispose();
        }

        _branch?.Dispose();
        (_x, _branch) = (null, null);
    }
}

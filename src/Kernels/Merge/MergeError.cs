namespace Engine.Kernels;

/// <summary>
/// What rounding takes from a merge: with W′ = round(W + Δ), the error of an element is e = (W′ − W) − Δ, the update that it
/// got less the update that it should have got.
/// </summary>
/// <param name="Loss">‖e‖_F, in f64; an error that is not a number counts as infinite.</param>
/// <param name="DeltaNorm">‖Δ‖_F.</param>
/// <param name="Largest">The largest |e|.</param>
/// <param name="Vanished">Elements whose W′ has W's bits although Δ is not 0.</param>
/// <param name="Elements">Elements of the matrix.</param>
public readonly record struct MergeError(double Loss, double DeltaNorm, double Largest, long Vanished, long Elements)
{
    /// <summary>‖e‖_F ∕ ‖Δ‖_F; 0 when both are.</summary>
    public double Relative => Loss == 0 ? 0 : Loss / DeltaNorm;

    /// <summary><see cref="Vanished"/> as a share of the elements.</summary>
    public double VanishedShare => Elements == 0 ? 0 : (double)Vanished / Elements;
}

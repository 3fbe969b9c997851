namespace Engine.Transformer;

/// <summary>
/// RoPE's base and scaling in both spellings: <c>rope_theta</c> with <c>rope_scaling</c>, and transformers 5's
/// <c>rope_parameters</c> that holds both. A file with both spellings must say the same thing twice.
/// </summary>
internal static class RopeParser
{
    private const double DefaultTheta = 10000;

    public static (double Theta, RopeScaling? Scaling) Parse(JsonFields fields)
    {
        double? theta = fields.Positive("rope_theta");
        JsonFields? older = fields.Object("rope_scaling");
        JsonFields? newer = fields.Object("rope_parameters");
        double? innerTheta = newer?.Positive("rope_theta") ?? older?.Positive("rope_theta");
        if (theta is not null && innerTheta is not null && theta != innerTheta)
        {
            throw fields.Error($"rope_theta is {theta} and rope_parameters.rope_theta is {innerTheta}; they must agree");
        }

        RopeScaling? fromOlder = older is null ? null : Scaling(older);
        RopeScaling? fromNewer = newer is null ? null : Scaling(newer);
        if (older is not null && newer is not null && fromOlder != fromNewer)
        {
            throw fields.Error("rope_scaling and rope_parameters disagree; keep one of them");
        }

        return (innerTheta ?? theta ?? DefaultTheta, newer is null ? fromOlder : fromNewer);
    }

    private static RopeScaling? Scaling(JsonFields rope)
    {
        string kindField = rope.Has("rope_type") ? "rope_type" : "type";
        if (rope.Number("partial_rotary_factor") is { } part && part != 1)
        {
            throw rope.Wrong("partial_rotary_factor", "1 (rotating a part of each head is not supported)");
        }

        switch (rope.String(kindField))
        {
            // Only rope_parameters may leave the type out: it then just carries rope_theta.
            case null when !rope.Has("factor"):
            case "default":
                return null;
            case "linear":
                return new RopeScaling(RopeScalingKind.Linear, Required(rope, "factor"));
            case "llama3":
                var scaling = new RopeScaling(
                    RopeScalingKind.Llama3,
                    Required(rope, "factor"),
                    Required(rope, "low_freq_factor"),
                    Required(rope, "high_freq_factor"),
                    rope.RequiredSize("original_max_position_embeddings"));
                rope.Refuse(scaling.HighFreqFactor <= scaling.LowFreqFactor, "high_freq_factor", $"a number over low_freq_factor ({scaling.LowFreqFactor})");
                return scaling;
            default:
                throw rope.Wrong(kindField, "one of default, linear, llama3 (dynamic, yarn and longrope are not supported)");
        }
    }

    private static double Required(JsonFields rope, string name) => rope.Positive(name) ?? throw rope.Missing(name, "a number over 0");
}

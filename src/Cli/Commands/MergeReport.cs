using System.Globalization;
using System.Text.Json;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>What a merge lost in each layer, as a table and as JSON. With W′ = round(W + Δ) the error is (W′ − W) − Δ.</summary>
internal static class MergeReport
{
    /// <summary>Writes the table.</summary>
    public static void Print(CommandConsole console, IReadOnlyList<LayerMergeReport> layers)
    {
        console.WriteTable(
            ["layer", "dtype", ">‖Δ‖", ">‖error‖", ">‖error‖∕‖Δ‖", ">max error", ">% vanished", ">correction", ">% of weight"],
            layers.Select(l => (string[])
            [
                l.Path, l.DType.Name(),
                .. l.Error is { } e
                    ? (string[])[Short(e.DeltaNorm), Short(e.Loss), Short(e.Relative), Short(e.Largest), Results.Percent(e.VanishedShare)]
                    : ["", "", "", "", ""],
                Results.Bytes(l.CorrectionBytes), Results.Percent(ShareOfWeight(l)),
            ]));
        console.Output.WriteLine(
            "error: what rounding took from the update; vanished: elements that kept their bits though they had an update");
    }

    /// <summary>Writes the property <c>layers</c>.</summary>
    public static void Write(Utf8JsonWriter writer, IReadOnlyList<LayerMergeReport> layers)
    {
        writer.WriteStartArray("layers");
        foreach (LayerMergeReport layer in layers)
        {
            writer.WriteStartObject();
            writer.WriteString("path", layer.Path);
            writer.WriteString("dtype", layer.DType.Name());
            if (layer.Error is { } error)
            {
                writer.WriteFinite("delta_norm", error.DeltaNorm);
                writer.WriteFinite("error_norm", error.Loss);
                writer.WriteFinite("relative_error", error.Relative);
                writer.WriteFinite("max_abs_error", error.Largest);
                writer.WriteNumber("vanished", error.Vanished);
                writer.WriteNumber("elements", error.Elements);
            }

            writer.WriteNumber("corrected_elements", layer.CorrectedElements);
            writer.WriteNumber("correction_bytes", layer.CorrectionBytes);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    // DoRA's correction is the weight itself.
    private static double ShareOfWeight(LayerMergeReport layer) =>
        layer.Error is { } error ? (double)layer.CorrectionBytes / (error.Elements * layer.DType.Size()) : 1;

    private static string Short(double value) => value.ToString("0.00e0", CultureInfo.InvariantCulture);
}

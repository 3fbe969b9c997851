using System.Globalization;
using System.Text;
using System.Text.Json;
using Engine.Kernels;

namespace Engine.Bench.MatMul;

/// <summary>Median seconds of one call: ours and OpenBLAS's (NaN when absent), on one thread and on all.</summary>
internal sealed record MatMulResult(MatMulShape Shape, double Ours1, double OursAll, double Blas1, double BlasAll)
{
    public double GFlops(double seconds) => Shape.Flops / seconds * 1e-9;
}

/// <summary>The results as a table and as JSON.</summary>
internal sealed class MatMulReport(BenchHost host, OpenBlas? blas)
{
    private const string CoreVariable = "OPENBLAS_CORETYPE";

    public OpenBlas? Blas => blas;

    public List<MatMulResult> Results { get; } = [];

    /// <summary>Cores that other processes used meanwhile; null when unknown.</summary>
    public double? OtherCores { get; set; }

    public static string Row(MatMulResult r)
    {
        string Cell(double seconds) => double.IsNaN(seconds) ? "—" : r.GFlops(seconds).ToString("F1", CultureInfo.InvariantCulture);
        static string Ratio(double ours, double theirs) => double.IsNaN(theirs) ? "—" : (theirs / ours).ToString("F2", CultureInfo.InvariantCulture);
        static string Micros(double seconds) => (seconds * 1e6).ToString(seconds < 1e-4 ? "F1" : "F0", CultureInfo.InvariantCulture);
        return $"| {r.Shape.Name,-19} | {r.Shape.What,-15} | {Micros(r.Ours1),9} | {Cell(r.Ours1),7} | {Cell(r.Blas1),7} | {Ratio(r.Ours1, r.Blas1),5} "
            + $"| {Micros(r.OursAll),9} | {Cell(r.OursAll),7} | {Cell(r.BlasAll),7} | {Ratio(r.OursAll, r.BlasAll),5} |";
    }

    public string Header()
    {
        var text = new StringBuilder();
        text.AppendLine("# CPU matrix product, fp32").AppendLine();
        text.AppendLine("Produced by `engine-bench matmul`: C[m,n] = op(A)·op(B), shapes m×n×k, medians of samples taken in turn.");
        text.AppendLine("Columns: µs a call and GFLOP/s of ours, GFLOP/s of OpenBLAS, ours ⁄ OpenBLAS; on 1 thread, then on all cores.").AppendLine();
        text.AppendLine($"- Host: {host}");
        text.AppendLine($"- Ours: {CpuGemm.VectorBits}-bit vectors");
        text.AppendLine(blas is null ? $"- {OpenBlas.HowToGet}" : $"- OpenBLAS: core type {blas.Core}; {blas.Config}");
        if (blas is not null && Environment.GetEnvironmentVariable(CoreVariable) is { Length: > 0 } forced)
        {
            text.AppendLine($"- NOTE: {CoreVariable}={forced} is set, so OpenBLAS did not choose for itself; unset it for a fair comparison");
        }

        return text.ToString();
    }

    public string Disturbance() => OtherCores is double cores
        ? $"Other processes used {cores.ToString("F2", CultureInfo.InvariantCulture)} of the {host.Cores} cores meanwhile."
        : "How busy other processes kept the cores meanwhile is unknown on this system.";

    public string TableHead() =>
        $"| {"shape",-19} | {"what",-15} | {"µs, 1",9} | {"ours 1",7} | {"blas 1",7} | ratio | {"µs, " + host.Cores,9} | {"ours " + host.Cores,7} | {"blas " + host.Cores,7} | ratio |\n"
        + $"|{new string('-', 21)}|{new string('-', 17)}|{new string('-', 10)}:|{new string('-', 8)}:|{new string('-', 8)}:|------:|{new string('-', 10)}:|{new string('-', 8)}:|{new string('-', 8)}:|------:|";

    public string ToMarkdown()
    {
        var text = new StringBuilder(Header());
        text.AppendLine().AppendLine(TableHead());
        foreach (MatMulResult result in Results)
        {
            text.AppendLine(Row(result));
        }

        text.AppendLine().AppendLine(Disturbance());
        return text.ToString();
    }

    public byte[] ToJson()
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteString("bench", "matmul");
            host.Write(json);
            json.WriteNumber("vector_bits", CpuGemm.VectorBits);
            json.WriteString("openblas_core", blas?.Core);
            json.WriteString("openblas_config", blas?.Config);
            json.WriteString("openblas_coretype_variable", Environment.GetEnvironmentVariable(CoreVariable));
            if (OtherCores is double cores)
            {
                json.WriteNumber("other_processes_cores", Math.Round(cores, 3));
            }

            json.WriteStartArray("results");
            foreach (MatMulResult r in Results)
            {
                json.WriteStartObject();
                json.WriteString("shape", r.Shape.Name);
                json.WriteString("what", r.Shape.What);
                json.WriteNumber("m", r.Shape.M);
                json.WriteNumber("n", r.Shape.N);
                json.WriteNumber("k", r.Shape.K);
                Write(json, "one_thread", r, r.Ours1, r.Blas1);
                Write(json, "all_threads", r, r.OursAll, r.BlasAll);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return stream.ToArray();
    }

    private static void Write(Utf8JsonWriter json, string name, MatMulResult r, double ours, double theirs)
    {
        json.WriteStartObject(name);
        json.WriteNumber("microseconds", Math.Round(ours * 1e6, 2));
        json.WriteNumber("gflops", Math.Round(r.GFlops(ours), 2));
        if (!double.IsNaN(theirs))
        {
            json.WriteNumber("openblas_microseconds", Math.Round(theirs * 1e6, 2));
            json.WriteNumber("openblas_gflops", Math.Round(r.GFlops(theirs), 2));
            json.WriteNumber("ratio", Math.Round(theirs / ours, 3));
        }

        json.WriteEndObject();
    }
}

using System.Text.Json;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// Metrics as JSON lines, each written out at once: <c>step</c>, <c>loss</c>, <c>grad_norm</c>, <c>lr</c>, <c>tokens</c>,
/// <c>tokens_per_second</c> for a step, and <c>step</c>, <c>eval_loss</c>, <c>eval_perplexity</c> for an evaluation. A
/// resumed run drops the lines after its checkpoint first, so that the file has each step once.
/// </summary>
public sealed class MetricsFile : ITrainingObserver, IDisposable
{
    private readonly FileStream _stream;
    private readonly string _path;

    private MetricsFile(FileStream stream, string path)
    {
        _stream = stream;
        _path = path;
    }

    /// <summary>Opens the file for a run.</summary>
    /// <param name="path">The file; created, or replaced by what is kept of it.</param>
    /// <param name="stepsDone">Steps of the checkpoint that the run goes on from: the lines up to it stay; 0 keeps none.</param>
    /// <exception cref="EngineDataException">It cannot be written, or what is there is no file of metrics.</exception>
    public static MetricsFile Open(string path, int stepsDone)
    {
        byte[] kept = stepsDone > 0 && File.Exists(path) ? Keep(path, stepsDone) : [];
        try
        {
            if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } directory)
            {
                Directory.CreateDirectory(directory);
            }

            // A device or a pipe has nothing to keep and is written to as it is.
            if (kept.Length == 0)
            {
                return new MetricsFile(new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0), path);
            }

            AtomicFile.Write(path, stream => stream.Write(kept));
            return new MetricsFile(new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read, bufferSize: 0), path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"cannot write {path}: {error.Message}", error);
        }
    }

    /// <inheritdoc/>
    public void OnStep(TrainingMetrics metrics) => WriteLine(json =>
    {
        json.WriteNumber("step", metrics.Step);
        json.WriteNumber("loss", metrics.Loss);
        json.WriteNumber("grad_norm", metrics.GradientNorm);
        json.WriteNumber("lr", metrics.LearningRate);
        json.WriteNumber("tokens", metrics.Tokens);
        json.WriteNumber("tokens_per_second", Math.Round(metrics.TokensPerSecond, 1));
    });

    /// <inheritdoc/>
    public void OnEvaluation(int step, EvaluationResult result, bool isBest) => WriteLine(json =>
    {
        ArgumentNullException.ThrowIfNull(result);
        json.WriteNumber("step", step);
        WriteFinite(json, "eval_loss", result.Loss);
        WriteFinite(json, "eval_perplexity", result.Perplexity);
    });

    /// <inheritdoc/>
    public void OnCheckpoint(int step, string directory)
    {
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private static void WriteFinite(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    // The last line of a killed run may be cut off; it comes after the checkpoint and goes with the others.
    private static byte[] Keep(string path, int stepsDone) => Files.Read(path, stream =>
    {
        using var kept = new MemoryStream();
        var lines = new LineReader(stream, path);
        while (lines.TryNext(out ReadOnlyMemory<byte> line))
        {
            if (StepOf(line, $"{path}:{lines.Number}") is not { } step || step > stepsDone)
            {
                break;
            }

            kept.Write(line.Span);
            kept.WriteByte((byte)'\n');
        }

        return kept.ToArray();
    });

    private static int? StepOf(ReadOnlyMemory<byte> line, string source)
    {
        try
        {
            return JsonFields.Parse(line, source).Int("step");
        }
        catch (EngineDataException)
        {
            return null;
        }
    }

    private void WriteLine(Action<Utf8JsonWriter> write)
    {
        using var line = new MemoryStream();
        using (var json = new Utf8JsonWriter(line))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        line.WriteByte((byte)'\n');
        try
        {
            _stream.Write(line.GetBuffer(), 0, (int)line.Length);
        }
        catch (IOException error)
        {
            throw new EngineDataException($"cannot write {_path}: {error.Message}", error);
        }
    }
}

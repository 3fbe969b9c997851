using System.Text;
using System.Text.Json;
using Engine.Lora.Data;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>A point of a curve.</summary>
/// <param name="Step">Optimizer steps done, from 1.</param>
/// <param name="Loss">The loss.</param>
public readonly record struct LossPoint(int Step, double Loss);

/// <summary>The losses of a run; part of its checkpoints, so that a resumed run knows its whole curve.</summary>
public sealed class TrainingHistory
{
    internal const string FileName = "history.jsonl";

    private readonly List<LossPoint> _training = [];
    private readonly List<LossPoint> _evaluation = [];

    /// <summary>The training loss of each step.</summary>
    public IReadOnlyList<LossPoint> Training => _training;

    /// <summary>The held-out losses.</summary>
    public IReadOnlyList<LossPoint> Evaluation => _evaluation;

    internal void Add(int step, double loss) => _training.Add(new LossPoint(step, loss));

    internal void AddEvaluation(int step, double loss) => _evaluation.Add(new LossPoint(step, loss));

    internal void Save(string path) => AtomicFile.Write(path, stream =>
    {
        Write(stream, _training, "loss");
        Write(stream, _evaluation, "eval_loss");
    });

    internal static TrainingHistory Load(string path)
    {
        var history = new TrainingHistory();
        Files.Read(path, stream =>
        {
            var lines = new LineReader(stream, path);
            while (lines.TryNext(out ReadOnlyMemory<byte> line))
            {
                JsonFields fields = JsonFields.Parse(line, $"{path}:{lines.Number}");
                int step = fields.Int("step", 1) ?? throw fields.Missing("step", "a step number");
                if (fields.Number("loss") is { } loss)
                {
                    history.Add(step, loss);
                }
                else if (fields.Number("eval_loss") is { } evaluation)
                {
                    history.AddEvaluation(step, evaluation);
                }
            }

            return true;
        });
        return history;
    }

    private static void Write(Stream stream, List<LossPoint> points, string field)
    {
        foreach (LossPoint point in points.Where(p => double.IsFinite(p.Loss)))
        {
            using (var json = new Utf8JsonWriter(stream))
            {
                json.WriteStartObject();
                json.WriteNumber("step", point.Step);
                json.WriteNumber(field, point.Loss);
                json.WriteEndObject();
            }

            stream.Write(Encoding.UTF8.GetBytes("\n"));
        }
    }
}

using Engine.Bench.MatMul;
using Engine.Bench.Training;

namespace Engine.Bench;

/// <summary><c>engine-bench</c>: one sub-command for each benchmark.</summary>
internal static class Program
{
    private static readonly (string Name, string Summary, Func<string[], int> Run)[] s_benches =
    [
        ("matmul", "the CPU matrix product against OpenBLAS", MatMulBench.Run),
        ("train", "tokens per second of training the demo's base model on the CPU", TrainBench.Run),
    ];

    private static int Main(string[] args)
    {
        string name = args.Length > 0 ? args[0] : "--help";
        foreach ((string benchName, _, Func<string[], int> run) in s_benches)
        {
            if (benchName == name)
            {
                return run(args[1..]);
            }
        }

        bool help = name is "--help" or "-h";
        TextWriter output = help ? Console.Out : Console.Error;
        if (!help)
        {
            output.WriteLine($"engine-bench: there is no benchmark '{name}'");
        }

        output.WriteLine("Usage: engine-bench BENCHMARK [options]; engine-bench BENCHMARK --help");
        foreach ((string benchName, string summary, _) in s_benches)
        {
            output.WriteLine($"  {benchName,-10} {summary}");
        }

        return help ? 0 : 2;
    }
}

namespace Engine.Bench.MatMul;

/// <summary>C[m, n] = op(A)·op(B) with sums of length k; what it is in a model.</summary>
internal sealed record MatMulShape(string What, bool TransA, bool TransB, int M, int N, int K)
{
    /// <summary>The shapes of the table: the squares of the target, then what training and decoding a small model multiply.</summary>
    public static readonly MatMulShape[] All =
    [
        new("square", false, false, 256, 256, 256),
        new("square", false, false, 512, 512, 512),
        new("square", false, false, 1024, 1024, 1024),
        new("square", false, false, 2048, 2048, 2048),
        new("square", false, true, 1024, 1024, 1024),
        new("square", true, false, 1024, 1024, 1024),
        new("projection", false, true, 500, 192, 192),
        new("projection", false, true, 2048, 256, 256),
        new("MLP up", false, true, 2048, 640, 256),
        new("MLP down", false, true, 2048, 256, 640),
        new("MLP up", false, true, 4096, 1024, 512),
        new("head", false, true, 512, 2048, 256),
        new("input gradient", false, false, 2048, 256, 640),
        new("input gradient", false, false, 2048, 512, 512),
        new("weight gradient", true, false, 256, 640, 2048),
        new("weight gradient", true, false, 512, 512, 4096),
        new("LoRA down", false, true, 2048, 8, 256),
        new("LoRA down", false, true, 4096, 16, 512),
        new("LoRA up", false, true, 2048, 256, 8),
        new("LoRA up", false, true, 4096, 512, 16),
        new("LoRA dB", true, false, 256, 8, 2048),
        new("LoRA dA", true, false, 8, 256, 2048),
        new("LoRA dA", true, false, 16, 512, 4096),
        new("decode, 1 row", false, true, 1, 640, 256),
        new("decode, 1 row", false, true, 1, 2048, 2048),
        new("decode, 4 rows", false, true, 4, 640, 256),
        new("decode, 16 rows", false, true, 16, 1024, 512),
        new("decode, 1 row", false, false, 1, 1024, 1024),
    ];

    public int Lda => TransA ? M : K;

    public int Ldb => TransB ? K : N;

    public double Flops => 2.0 * M * N * K;

    /// <summary>Such as <c>NT 2048×256×640</c> (m × n × k).</summary>
    public string Name => $"{(TransA ? 'T' : 'N')}{(TransB ? 'T' : 'N')} {M}x{N}x{K}";
}

using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// The dtype names of the safetensors format. Those in <see cref="DType"/> can be read; the others have a known size,
/// so that a file which also holds them (GPT-2 checkpoints with boolean mask buffers) can be checked and opened.
/// </summary>
internal static class SafetensorsDType
{
    public const string Supported = "F32, F64, BF16, F16, I32, I64, U8";

    private static readonly (string Name, int Size, DType? DType)[] s_all =
    [
        ("F32", 4, Tensors.DType.F32),
        ("BF16", 2, Tensors.DType.BF16),
        ("F16", 2, Tensors.DType.F16),
        ("F64", 8, Tensors.DType.F64),
        ("I64", 8, Tensors.DType.I64),
        ("I32", 4, Tensors.DType.I32),
        ("U8", 1, Tensors.DType.U8),
        ("BOOL", 1, null),
        ("I8", 1, null),
        ("I16", 2, null),
        ("U16", 2, null),
        ("U32", 4, null),
        ("U64", 8, null),
        ("C64", 8, null),
        ("F8_E4M3", 1, null),
        ("F8_E5M2", 1, null),
        ("F8_E8M0", 1, null),
    ];

    /// <summary>Looks up the current string token; the returned name is a shared constant, nothing is allocated.</summary>
    public static bool TryRead(ref Utf8JsonReader reader, out string name, out int size, out DType? dtype)
    {
        foreach ((string candidate, int candidateSize, DType? candidateDType) in s_all)
        {
            if (reader.ValueTextEquals(candidate))
            {
                (name, size, dtype) = (candidate, candidateSize, candidateDType);
                return true;
            }
        }

        (name, size, dtype) = ("", 0, null);
        return false;
    }

    public static string Name(DType dtype) => dtype switch
    {
        Tensors.DType.F32 => "F32",
        Tensors.DType.F64 => "F64",
        Tensors.DType.BF16 => "BF16",
        Tensors.DType.F16 => "F16",
        Tensors.DType.I32 => "I32",
        Tensors.DType.I64 => "I64",
        Tensors.DType.U8 => "U8",
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, null),
    };

    /// <summary>
    /// Rank in the reference serializer's order: wider alignments come first in the file, so that every tensor starts
    /// at a multiple of its element size. Higher is earlier.
    /// </summary>
    public static int Rank(DType dtype) => dtype switch
    {
        Tensors.DType.I64 => 6,
        Tensors.DType.F64 => 5,
        Tensors.DType.F32 => 4,
        Tensors.DType.I32 => 3,
        Tensors.DType.BF16 => 2,
        Tensors.DType.F16 => 1,
        _ => 0,
    };
}

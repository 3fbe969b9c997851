using System.Reflection;

namespace Engine.Transformer.Tokenization;

/// <summary>The tables of NormalizationData.bin (see make_normalization_data.py beside it for the layout).</summary>
internal sealed class NormalizationData
{
    private readonly Dictionary<int, int[]> _canonical = [];
    private readonly Dictionary<int, int[]> _compatibility = [];
    private readonly Dictionary<int, byte> _classes = [];
    private readonly Dictionary<long, int> _composites = [];

    private NormalizationData(ReadOnlySpan<byte> bytes)
    {
        ReadDecompositions(ref bytes, _canonical);
        ReadDecompositions(ref bytes, _compatibility);

        int count = Next(ref bytes);
        for (int i = 0, point = 0; i < count; i++)
        {
            point += Next(ref bytes);
            int length = Next(ref bytes);
            byte value = (byte)Next(ref bytes);
            for (int j = 0; j < length; j++)
            {
                _classes.Add(point + j, value);
            }
        }

        count = Next(ref bytes);
        for (int i = 0, point = 0; i < count; i++)
        {
            point += Next(ref bytes);
            int first = Next(ref bytes);
            int second = Next(ref bytes);
            _composites.Add(((long)first << 32) | (uint)second, point);
        }
    }

    public static NormalizationData Load()
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("NormalizationData.bin")
            ?? throw new InvalidOperationException("the assembly was built without NormalizationData.bin");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return new NormalizationData(bytes);
    }

    public int[]? Decomposition(int point, bool compatibility) =>
        compatibility && _compatibility.TryGetValue(point, out int[]? parts) ? parts : _canonical.GetValueOrDefault(point);

    public int Class(int point) => point < 0x300 ? 0 : _classes.GetValueOrDefault(point);

    public int? Composite(int first, int second) =>
        _composites.TryGetValue(((long)first << 32) | (uint)second, out int point) ? point : null;

    private static void ReadDecompositions(ref ReadOnlySpan<byte> bytes, Dictionary<int, int[]> table)
    {
        int count = Next(ref bytes);
        for (int i = 0, point = 0; i < count; i++)
        {
            point += Next(ref bytes);
            int[] parts = new int[Next(ref bytes)];
            for (int j = 0; j < parts.Length; j++)
            {
                parts[j] = Next(ref bytes);
            }

            table.Add(point, parts);
        }
    }

    private static int Next(ref ReadOnlySpan<byte> bytes)
    {
        int value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte part = bytes[0];
            bytes = bytes[1..];
            value |= (part & 0x7F) << shift;
            if (part < 0x80)
            {
                return value;
            }
        }
    }
}

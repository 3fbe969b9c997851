using System.Text.Unicode;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// GPT-2's bijection between the 256 bytes and visible characters: printable Latin-1 stands for itself, the other 68
/// bytes are U+0100 onwards in byte order.
/// </summary>
internal static class ByteLevelAlphabet
{
    private static readonly char[] Characters = BuildCharacters();
    private static readonly short[] Bytes = BuildBytes();

    public static char ToCharacter(byte value) => Characters[value];

    /// <summary>The byte a character stands for, or −1.</summary>
    public static int ToByte(char character) => character < Bytes.Length ? Bytes[character] : -1;

    /// <summary>Writes one character per UTF-8 byte of the text and returns how many.</summary>
    public static int Map(ReadOnlySpan<char> text, Span<char> target)
    {
        int written = 0;
        Span<byte> utf8 = stackalloc byte[256];
        while (!text.IsEmpty)
        {
            Utf8.FromUtf16(text, utf8, out int used, out int count);
            for (int i = 0; i < count; i++)
            {
                target[written++] = Characters[utf8[i]];
            }

            text = text[used..];
        }

        return written;
    }

    private static char[] BuildCharacters()
    {
        var characters = new char[256];
        int next = 256;
        for (int b = 0; b < 256; b++)
        {
            bool visible = b is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            characters[b] = (char)(visible ? b : next++);
        }

        return characters;
    }

    private static short[] BuildBytes()
    {
        var bytes = new short[256 + 68];
        Array.Fill(bytes, (short)-1);
        for (int b = 0; b < 256; b++)
        {
            bytes[Characters[b]] = (short)b;
        }

        return bytes;
    }
}

using System.Text;
using System.Text.Json;
using Engine.Transformer.Tokenization;

namespace Engine.Tests.Shared;

/// <summary>
/// A byte-level tokenizer without merges for the 71 ids of the small test models: letters, digits, a space, marks, the two
/// bytes of é (ids 65 and 66), and one special token (id 70).
/// </summary>
internal static class LetterTokenizer
{
    // In the byte-level alphabet a space is Ġ, byte C3 is Ã and byte A9 is ©.
    private const string Alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZĠ0123456789.,Ã©!?;";

    public const int FirstByte = 65;

    public const int SecondByte = 66;

    public const int End = 70;

    public static Tokenizer Create()
    {
        using var directory = new TemporaryDirectory();
        var json = new StringBuilder();
        json.Append("""{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":70,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],""");
        json.Append("""
            "normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
            "post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
            "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"merges":[],"vocab":{
            """);
        for (int i = 0; i < Alphabet.Length; i++)
        {
            json.Append('"').Append(JsonEncodedText.Encode(Alphabet[i].ToString())).Append("\":").Append(i).Append(',');
        }

        json.Append("\"</s>\":70}}}");
        return Tokenizer.Load(directory.Write("tokenizer.json", json.ToString()));
    }
}

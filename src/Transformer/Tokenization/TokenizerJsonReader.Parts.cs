using System.Text;

namespace Engine.Transformer.Tokenization;

/// <content>Normalizers, pre-tokenizers, post-processors and decoders.</content>
internal static partial class TokenizerJsonReader
{
    internal static Normalizer ReadNormalizer(JsonField field)
    {
        JsonField type = field.Required("type");
        return type.Text() switch
        {
            "Sequence" => new NormalizerSequence(ReadList(field.Required("normalizers"), ReadNormalizer)),
            "NFC" => new UnicodeFormNormalizer(NormalizationForm.FormC),
            "NFD" => new UnicodeFormNormalizer(NormalizationForm.FormD),
            "NFKC" => new UnicodeFormNormalizer(NormalizationForm.FormKC),
            "NFKD" => new UnicodeFormNormalizer(NormalizationForm.FormKD),
            "Lowercase" => new LowercaseNormalizer(),
            "Prepend" => new PrependNormalizer(field.Required("prepend").Text()),
            "Replace" => new ReplaceNormalizer(ReadPattern(field.Required("pattern")), field.Required("content").Text()),
            "Strip" => new StripNormalizer(field.Flag("strip_left", true), field.Flag("strip_right", true)),
            "StripAccents" => new StripAccentsNormalizer(),
            _ => throw Unsupported(
                type, "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents"),
        };
    }

    internal static PreTokenizer ReadPreTokenizer(JsonField field)
    {
        JsonField type = field.Required("type");
        switch (type.Text())
        {
            case "Sequence":
                return new PreTokenizerSequence(ReadList(field.Required("pretokenizers"), ReadPreTokenizer));
            case "ByteLevel":
                return new ByteLevelPreTokenizer(field.Flag("add_prefix_space", true), field.Flag("use_regex", true));
            case "Split":
                return new PatternPreTokenizer(
                    ReadPattern(field.Required("pattern")), ReadBehavior(field.Required("behavior")), field.Flag("invert", false));
            case "Whitespace":
                // Rust's \w, which includes the join controls, rather than Oniguruma's.
                return new PatternPreTokenizer(WordsAndSymbols, SplitBehavior.Removed, invert: true);
            case "WhitespaceSplit":
                return new CharacterPreTokenizer(CodePointSet.WhiteSpace, SplitBehavior.Removed);
            case "Digits":
                return new CharacterPreTokenizer(
                    CodePointSet.Number,
                    field.Flag("individual_digits", false) ? SplitBehavior.Isolated : SplitBehavior.Contiguous);
            case "Punctuation":
                return new CharacterPreTokenizer(
                    CodePointSet.Punctuation,
                    field.Optional("behavior") is JsonField behavior ? ReadBehavior(behavior) : SplitBehavior.Isolated);
            case "Metaspace":
                return new MetaspacePreTokenizer(ReadMark(field), ReadScheme(field), field.Flag("split", true));
            default:
                throw Unsupported(
                    type, "Sequence, ByteLevel, Split, Whitespace, WhitespaceSplit, Digits, Punctuation, Metaspace");
        }
    }

    // Rust's \w+|[^\w\s]+ spelled out in the terms of the pattern engine.
    private static readonly SplitPattern WordsAndSymbols =
        SplitPattern.Parse(@"[\w\u200C\u200D]+|[^\w\u200C\u200D\s]+");

    private static SplitBehavior ReadBehavior(JsonField field) => field.Text() switch
    {
        "Removed" => SplitBehavior.Removed,
        "Isolated" => SplitBehavior.Isolated,
        "MergedWithPrevious" => SplitBehavior.MergedWithPrevious,
        "MergedWithNext" => SplitBehavior.MergedWithNext,
        "Contiguous" => SplitBehavior.Contiguous,
        _ => throw Unsupported(field, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous"),
    };

    private static char ReadMark(JsonField field)
    {
        JsonField mark = field.Required("replacement");
        string text = mark.Text();
        return text.Length == 1 ? text[0] : throw Unsupported(mark, "one character of the basic multilingual plane");
    }

    private static PrependScheme ReadScheme(JsonField field)
    {
        PrependScheme scheme = PrependScheme.Always;
        if (field.Optional("prepend_scheme") is JsonField declared)
        {
            scheme = declared.Text() switch
            {
                "always" => PrependScheme.Always,
                "first" => PrependScheme.First,
                "never" => PrependScheme.Never,
                _ => throw Unsupported(declared, "always, first, never"),
            };
        }

        if (!field.Flag("add_prefix_space", true) && scheme != PrependScheme.Never)
        {
            throw field.Required("add_prefix_space").Error("false contradicts \"prepend_scheme\", which must then be \"never\"");
        }

        return scheme;
    }

    internal static TokenDecoder ReadDecoder(JsonField field)
    {
        JsonField type = field.Required("type");
        return type.Text() switch
        {
            "Sequence" => new DecoderSequence(ReadList(field.Required("decoders"), ReadDecoder)),
            "ByteLevel" => new ByteLevelDecoder(),
            "Replace" => new ReplaceDecoder(ReadPattern(field.Required("pattern")), field.Required("content").Text()),
            "ByteFallback" => new ByteFallbackDecoder(),
            "Fuse" => new FuseDecoder(),
            "Strip" => new StripDecoder(
                ReadStripContent(field.Required("content")), field.Required("start").Number(), field.Required("stop").Number()),
            "Metaspace" => new MetaspaceDecoder(ReadMark(field), ReadScheme(field)),
            _ => throw Unsupported(type, "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace"),
        };
    }

    private static string ReadStripContent(JsonField field)
    {
        string text = field.Text();
        return text.EnumerateRunes().Count() == 1 ? text : throw Unsupported(field, "one character");
    }

    internal static PostProcessor ReadPostProcessor(JsonField field)
    {
        JsonField type = field.Required("type");
        switch (type.Text())
        {
            case "ByteLevel":
                return PostProcessor.None; // concerns offsets, not ids
            case "Sequence":
                return PostProcessor.Chain(ReadList(field.Required("processors"), ReadPostProcessor));
            case "TemplateProcessing":
                return ReadTemplate(field);
            default:
                throw Unsupported(type, "Sequence, ByteLevel, TemplateProcessing");
        }
    }

    private static PostProcessor ReadTemplate(JsonField field)
    {
        var ids = new Dictionary<string, int[]>();
        if (field.Optional("special_tokens") is JsonField specials)
        {
            foreach ((string name, JsonField value) in specials.Members())
            {
                ids[name] = [.. value.Required("ids").Items().Select(i => i.Number())];
            }
        }

        var before = new List<int>();
        var after = new List<int>();
        bool seen = false;
        foreach (JsonField piece in field.Required("single").Items())
        {
            if (piece.Optional("SpecialToken") is JsonField special)
            {
                JsonField name = special.Required("id");
                if (!ids.TryGetValue(name.Text(), out int[]? tokens))
                {
                    throw name.Error($"{name.Describe()} is not in \"{field.Path}.special_tokens\"");
                }

                (seen ? after : before).AddRange(tokens);
            }
            else if (piece.Optional("Sequence") is JsonField sequence && sequence.Required("id").Text() == "A" && !seen)
            {
                seen = true;
            }
            else
            {
                throw Unsupported(piece, "{\"SpecialToken\": …} and {\"Sequence\": {\"id\": \"A\"}} exactly once");
            }
        }

        return seen
            ? new PostProcessor([.. before], [.. after])
            : throw field.Required("single").Error("{\"Sequence\": {\"id\": \"A\"}} is missing: the text itself would be dropped");
    }
}

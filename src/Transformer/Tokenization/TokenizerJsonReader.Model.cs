using System.Text.Json;

namespace Engine.Transformer.Tokenization;

/// <content>"model": vocabulary and merges.</content>
internal static partial class TokenizerJsonReader
{
    private static BpeModel ReadModel(JsonField model)
    {
        // Old files have no "type"; merges then tell that the model is BPE.
        if (model.Optional("type") is JsonField type ? type.Text() != "BPE" : model.Optional("merges") is null)
        {
            throw Unsupported(model.Optional("type") ?? model, "\"BPE\"");
        }

        if (model.Optional("dropout") is JsonField dropout
            && !(dropout.Element.ValueKind == JsonValueKind.Number && dropout.Element.GetDouble() == 0))
        {
            throw Unsupported(dropout, "null or 0: encoding must give the same ids each time");
        }

        Dictionary<string, int> ids = ReadVocabulary(model.Required("vocab"));
        string? prefix = model.Optional("continuing_subword_prefix")?.Text();
        string? suffix = model.Optional("end_of_word_suffix")?.Text();
        var options = new BpeOptions
        {
            UnknownId = model.Optional("unk_token") is JsonField unknown ? UnknownId(unknown, ids) : null,
            FuseUnknown = model.Flag("fuse_unk", false),
            ByteFallback = model.Flag("byte_fallback", false),
            IgnoreMerges = model.Flag("ignore_merges", false),
            ContinuingSubwordPrefix = string.IsNullOrEmpty(prefix) ? null : prefix,
            EndOfWordSuffix = string.IsNullOrEmpty(suffix) ? null : suffix,
        };
        return new BpeModel(ids, ReadMerges(model.Required("merges"), ids, prefix ?? ""), options);
    }

    private static int UnknownId(JsonField unknown, Dictionary<string, int> ids) =>
        ids.TryGetValue(unknown.Text(), out int id)
            ? id
            : throw unknown.Error($"{unknown.Describe()} is not in \"model.vocab\"");

    private static Dictionary<string, int> ReadVocabulary(JsonField vocab)
    {
        var ids = new Dictionary<string, int>(vocab.Element.ValueKind == JsonValueKind.Object ? vocab.Element.GetPropertyCount() : 0);
        var owners = new Dictionary<int, string>(ids.Capacity);
        foreach ((string token, JsonField value) in vocab.Members())
        {
            int id = value.Number();
            if (!ids.TryAdd(token, id))
            {
                throw vocab.Error($"the token {Quote(token)} occurs twice");
            }

            if (!owners.TryAdd(id, token))
            {
                throw vocab.Error($"the id {id} belongs to both {Quote(owners[id])} and {Quote(token)}");
            }
        }

        return ids;
    }

    private static Dictionary<long, (int Rank, int NewId)> ReadMerges(JsonField merges, Dictionary<string, int> ids, string prefix)
    {
        if (merges.Element.ValueKind != JsonValueKind.Array)
        {
            throw merges.Error($"{merges.Describe()} where a list is needed");
        }

        var table = new Dictionary<long, (int, int)>(merges.Element.GetArrayLength());
        int rank = 0;
        int index = 0;
        foreach (JsonElement element in merges.Element.EnumerateArray())
        {
            var item = new JsonField(merges.File, $"{merges.Path}[{index++}]", element);
            if (SplitMerge(item) is not (string left, string right))
            {
                continue;
            }

            int leftId = IdOf(item, ids, left);
            int rightId = IdOf(item, ids, right);
            string rest = right.StartsWith(prefix, StringComparison.Ordinal)
                ? right[prefix.Length..]
                : throw item.Error($"{Quote(right)} lacks the prefix {Quote(prefix)} of \"model.continuing_subword_prefix\"");

            // Of two merges of one pair the later counts, as in the reference.
            table[BpeModel.Pair(leftId, rightId)] = (rank++, IdOf(item, ids, left + rest));
        }

        return table;
    }

    /// <summary>"a b" or ["a", "b"]; null for the version line that old merges files begin with.</summary>
    private static (string Left, string Right)? SplitMerge(JsonField item)
    {
        if (item.Element.ValueKind == JsonValueKind.Array)
        {
            List<JsonField> pair = item.Items();
            return pair.Count == 2 ? (pair[0].Text(), pair[1].Text()) : throw item.Error($"{item.Describe()} where a pair is needed");
        }

        string text = item.Text();
        if (text.StartsWith("#version", StringComparison.Ordinal))
        {
            return null;
        }

        int space = text.IndexOf(' ', StringComparison.Ordinal);
        if (space < 0 || text.IndexOf(' ', space + 1) >= 0)
        {
            throw item.Error($"{item.Describe()} where two tokens with one space between are needed");
        }

        return (text[..space], text[(space + 1)..]);
    }

    private static int IdOf(JsonField item, Dictionary<string, int> ids, string token) =>
        ids.TryGetValue(token, out int id)
            ? id
            : throw item.Error($"the token {Quote(token)} is not in \"model.vocab\"");
}

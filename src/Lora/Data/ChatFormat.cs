using System.Text;

namespace Engine.Lora.Data;

/// <summary>Turns a conversation into text, in segments that are given and segments that are learned.</summary>
public interface IChatFormat
{
    /// <summary>The segments of a conversation.</summary>
    /// <param name="turns">Role and content of each turn.</param>
    /// <exception cref="Engine.Tensors.EngineDataException">The format cannot express these turns.</exception>
    IReadOnlyList<TextSegment> Render(IReadOnlyList<(string Role, string Content)> turns);
}

/// <summary>
/// How a conversation becomes text: for each turn, <paramref name="BeforeRole"/> role <paramref name="AfterRole"/>
/// content <paramref name="AfterContent"/>, and <paramref name="BetweenTurns"/> between two turns. The assistant's
/// content and the <paramref name="AfterContent"/> that ends it are learned, so that the model learns to stop.
/// </summary>
/// <param name="BeforeRole">Opens a turn.</param>
/// <param name="AfterRole">Stands between role and content.</param>
/// <param name="AfterContent">Ends a turn.</param>
/// <param name="BetweenTurns">Stands between two turns.</param>
public sealed record ChatFormat(string BeforeRole, string AfterRole, string AfterContent, string BetweenTurns) : IChatFormat
{
    /// <summary>ChatML, as Qwen uses it.</summary>
    public static ChatFormat ChatMl { get; } = new("<|im_start|>", "\n", "<|im_end|>", "\n");

    /// <summary>Llama 3's headers.</summary>
    public static ChatFormat Llama3 { get; } = new("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "");

    /// <summary>The segments of a conversation.</summary>
    /// <param name="turns">Role and content of each turn.</param>
    public IReadOnlyList<TextSegment> Render(IReadOnlyList<(string Role, string Content)> turns)
    {
        ArgumentNullException.ThrowIfNull(turns);
        var segments = new List<TextSegment>();
        var given = new StringBuilder();
        for (int i = 0; i < turns.Count; i++)
        {
            (string role, string content) = turns[i];
            given.Append(i == 0 ? "" : BetweenTurns).Append(BeforeRole).Append(role).Append(AfterRole);
            if (role == "assistant")
            {
                segments.Add(new TextSegment(given.ToString(), IsCompletion: false));
                segments.Add(new TextSegment(content + AfterContent, IsCompletion: true));
                given.Clear();
            }
            else
            {
                given.Append(content).Append(AfterContent);
            }
        }

        if (given.Length > 0)
        {
            segments.Add(new TextSegment(given.ToString(), IsCompletion: false));
        }

        return segments;
    }
}

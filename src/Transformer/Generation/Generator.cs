using Engine.Transformer.Tokenization;

namespace Engine.Transformer;

/// <summary>
/// Generates text with a model: prompts of any lengths in one batch, a key/value cache, one token a step for all rows.
/// </summary>
/// <remarks>
/// A row's tokens do not depend on the batch it is in: padding is invisible, and random draws are keyed by seed, stream
/// and the row's own count. (The matrix product may round differently for another number of rows, so that two tokens
/// whose logits differ by rounding alone may change places.)
/// </remarks>
public sealed class Generator
{
    private readonly DecoderModel _model;
    private readonly Tokenizer? _tokenizer;

    /// <summary>Uses a model with whatever adapters are in charge of it; neither is taken over.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Null when only ids are wanted.</param>
    public Generator(DecoderModel model, Tokenizer? tokenizer = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        _tokenizer = tokenizer;
    }

    /// <summary>Generates for all requests in one batch.</summary>
    /// <param name="requests">The prompts; none gives no results.</param>
    /// <param name="options">How to choose and when to stop.</param>
    /// <param name="onToken">Called for each token, row by row within a step.</param>
    /// <param name="cancellation">Looked at before each step.</param>
    /// <returns>One result for each request, in their order.</returns>
    /// <exception cref="Engine.Tensors.EngineDataException">A prompt is empty or too long, or an id is out of range.</exception>
    /// <exception cref="ArgumentException">An option is out of its range.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public IReadOnlyList<GenerationResult> Generate(
        IReadOnlyList<GenerationRequest> requests,
        GenerationOptions options,
        Action<GeneratedToken>? onToken = null,
        CancellationToken cancellation = default)
    {
        Check(requests, options);
        if (requests.Count == 0)
        {
            return [];
        }

        using var session = new GenerationSession(_model, requests, options, StreamTo(options, onToken is not null));
        var tokens = new List<GeneratedToken>(requests.Count);
        while (!session.Done)
        {
            cancellation.ThrowIfCancellationRequested();
            tokens.Clear();
            session.Step(tokens, cancellation);
            if (onToken is not null)
            {
                tokens.ForEach(onToken);
            }
        }

        return session.Results(_tokenizer);
    }

    /// <summary>Generates for one prompt.</summary>
    /// <inheritdoc cref="Generate(IReadOnlyList{GenerationRequest}, GenerationOptions, Action{GeneratedToken}, CancellationToken)"/>
    public GenerationResult Generate(
        IReadOnlyList<int> prompt,
        GenerationOptions options,
        Action<GeneratedToken>? onToken = null,
        CancellationToken cancellation = default) =>
        Generate([new GenerationRequest(prompt)], options, onToken, cancellation)[0];

    /// <summary>
    /// The same token by token: each step is computed when its first token is asked for. A caller who has seen enough
    /// stops asking.
    /// </summary>
    /// <inheritdoc cref="Generate(IReadOnlyList{GenerationRequest}, GenerationOptions, Action{GeneratedToken}, CancellationToken)"/>
    public IEnumerable<GeneratedToken> Stream(
        IReadOnlyList<GenerationRequest> requests, GenerationOptions options, CancellationToken cancellation = default)
    {
        Check(requests, options);
        return requests.Count == 0 ? [] : Steps();

        IEnumerable<GeneratedToken> Steps()
        {
            using var session = new GenerationSession(_model, requests, options, StreamTo(options, watched: true));
            var tokens = new List<GeneratedToken>(requests.Count);
            while (!session.Done)
            {
                cancellation.ThrowIfCancellationRequested();
                tokens.Clear();
                session.Step(tokens, cancellation);
                foreach (GeneratedToken token in tokens)
                {
                    yield return token;
                }
            }
        }
    }

    private void Check(IReadOnlyList<GenerationRequest> requests, GenerationOptions options)
    {
        ArgumentNullException.ThrowIfNull(requests);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        if (options.StopStrings.Count > 0 && _tokenizer is null)
        {
            throw new ArgumentException("stop strings are compared with the generated text, and there is no tokenizer to make text; use stop token ids", nameof(options));
        }
    }

    // Decoding every token as it comes costs time: it is done only where somebody looks.
    private Tokenizer? StreamTo(GenerationOptions options, bool watched) =>
        watched || options.StopStrings.Count > 0 ? _tokenizer : null;
}

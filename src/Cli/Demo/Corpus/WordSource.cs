using System.Text;

namespace Engine.Cli.Demo;

/// <summary>
/// Draws names, values and numbers of one pool. The base pool's source mixes its real words with invented ones
/// (syllables in English spelling, sometimes random letters or a compound with a word of the templates), so that a base model learns to copy whatever word
/// stands there rather than to know it. An invented word that happens to be a real word of any pool is drawn again.
/// </summary>
internal sealed class WordSource
{
    private static readonly string[] s_onsets =
    [
        "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "b", "c", "d", "l", "m", "n",
        "p", "r", "s", "t", "br", "cr", "dr", "fr", "gr", "pr", "tr", "bl", "cl", "fl", "gl", "pl", "sl", "st", "sp", "sc",
        "sk", "sh", "ch", "th", "qu", "wh", "y", "z", "", "",
    ];

    private static readonly string[] s_vowels =
    [
        "a", "e", "i", "o", "u", "a", "e", "i", "o", "a", "e", "i", "o", "ai", "ea", "ee", "ie", "oa", "oo", "ou", "io", "au",
    ];

    private static readonly string[] s_codas =
    [
        "", "", "", "", "", "", "", "", "n", "r", "l", "s", "t", "m", "d", "n", "r", "l", "nd", "nt", "st", "ck", "ng", "rt", "x", "p", "ll",
        "ss", "tt", "b", "g", "c", "w", "mp", "rd", "ct", "v", "k",
    ];

    private static readonly string[] s_endings =
    [
        "er", "or", "ion", "ity", "ment", "age", "al", "ing", "ure", "ence", "y", "ist", "ation", "ic", "ice", "ate", "ard",
        "an", "en", "on", "ton", "ia", "o", "a", "ine", "ent", "ive", "ous", "ship", "ness", "ster", "man", "ville",
    ];

    private readonly SplitMix _random;
    private readonly Pool _pool;
    private readonly PoolWords _words;

    /// <summary>A source that draws from a pool.</summary>
    /// <param name="random">Where the randomness comes from.</param>
    /// <param name="pool">Which words and numbers may be drawn.</param>
    public WordSource(SplitMix random, Pool pool)
    {
        _random = random;
        _pool = pool;
        _words = WordPools.Of(pool);
    }

    /// <summary>A table's name.</summary>
    public string Table()
    {
        if (UsesRealWord())
        {
            return _random.Pick(_words.Tables);
        }

        // Most invented tables have a plural's ending, as real ones have.
        while (true)
        {
            string word = _random.Chance(70) ? Invented() + "s" : Invented();
            if (!WordPools.IsListed(word))
            {
                return word;
            }
        }
    }

    /// <summary>A column's name.</summary>
    /// <param name="real">Whether the column holds numbers.</param>
    public string Column(bool real) =>
        UsesRealWord() ? _random.Pick(real ? _words.RealColumns : _words.TextColumns) : Invented();

    /// <summary>A text value: one word, sometimes two.</summary>
    public string Text() => _random.Chance(25) ? $"{Word()} {Word()}" : Word();

    /// <summary>One word of a value.</summary>
    public string Word() => UsesRealWord() ? _random.Pick(_words.Values) : Invented();

    /// <summary>A number of one to six digits.</summary>
    public int Number()
    {
        while (true)
        {
            int number = _random.PickWeighted([6, 22, 26, 18, 18, 7, 3]) switch
            {
                0 => _random.Next(2, 10),
                1 => _random.Next(10, 100),
                2 => _random.Next(100, 1000),
                3 => _random.Next(1850, 2030),
                4 => _random.Next(1000, 10_000),
                5 => _random.Next(10_000, 100_000),
                _ => _random.Next(100_000, 1_000_000),
            };

            if (WordPools.PoolOf(number) == _pool)
            {
                return number;
            }
        }
    }

    /// <summary>A number of the pool above or below another one, not far from it; null when there is none below.</summary>
    /// <param name="limit">The number to stay above or below.</param>
    /// <param name="above">On which side.</param>
    public int? NumberBeside(int limit, bool above)
    {
        int reach = Math.Max(20, limit / 2);
        int number = above ? limit + 1 + _random.Next(reach) : Math.Max(0, limit - 1 - _random.Next(reach));

        // On to the nearest number of the pool, away from the limit.
        while (number >= 0 && (number == limit || WordPools.PoolOf(number) != _pool))
        {
            number += above ? 1 : -1;
        }

        return number < 0 ? null : number;
    }

    private bool UsesRealWord() => _pool != Pool.Base || _random.Chance(30);

    private string Invented()
    {
        while (true)
        {
            string word = _random.PickWeighted([8, 8, 84]) switch
            {
                0 => Letters(),
                1 => Compound(),
                _ => Syllables(),
            };
            if (word.Length is >= 3 and <= 12 && IsFree(word))
            {
                return word;
            }
        }
    }

    // Neither a real word of any pool, nor a word of the questions, nor the name of a task.
    private static bool IsFree(string word) =>
        !WordPools.IsListed(word) && !QuestionTemplates.Uses(word)
        && Enum.GetValues<TaskLanguage>().All(language => TaskData.Tag(language) != word);

    // A word of the templates inside a name, as "name" is in "surname": such words are copied as well.
    private string Compound()
    {
        string part = _random.Pick(QuestionTemplates.Vocabulary);
        return _random.Chance(60) ? Syllables() + part : part + Syllables();
    }

    private string Letters()
    {
        var word = new StringBuilder();
        for (int length = _random.Next(3, 7); length > 0; length--)
        {
            word.Append((char)('a' + _random.Next(26)));
        }

        return word.ToString();
    }

    private string Syllables()
    {
        var word = new StringBuilder();
        for (int count = 1 + _random.PickWeighted([35, 50, 15]); count > 0; count--)
        {
            word.Append(_random.Pick(s_onsets)).Append(_random.Pick(s_vowels)).Append(_random.Pick(s_codas));
        }

        return _random.Chance(35) ? word.Append(_random.Pick(s_endings)).ToString() : word.ToString();
    }
}

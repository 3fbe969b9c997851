namespace Engine.Cli.Demo;

/// <summary>Draws tables, queries over them and their questions from one pool of words.</summary>
internal sealed class QuestionSampler
{
    private readonly SplitMix _random;
    private readonly WordSource _words;

    /// <summary>A sampler of one pool.</summary>
    /// <param name="random">Where the randomness comes from.</param>
    /// <param name="pool">Which words and numbers may be drawn.</param>
    public QuestionSampler(SplitMix random, Pool pool)
    {
        _random = random;
        _words = new WordSource(random, pool);
    }

    /// <summary>The words it draws.</summary>
    public WordSource Words => _words;

    /// <summary>A table of three to six columns, at least one of text and one of numbers.</summary>
    /// <param name="id">The table's identifier.</param>
    /// <param name="rows">How many rows of values.</param>
    public DataTable Table(string id, int rows)
    {
        string name = _words.Table();
        int columns = 3 + _random.PickWeighted([40, 35, 18, 7]);
        var isReal = new List<bool> { false, true };
        while (isReal.Count < columns)
        {
            isReal.Add(_random.Chance(50));
        }

        _random.Shuffle(isReal);
        var used = new HashSet<string> { name };
        var header = new List<string>();
        foreach (bool real in isReal)
        {
            string column;
            do
            {
                column = _words.Column(real);
            }
            while (!used.Add(column));
            header.Add(column);
        }

        var cells = new List<IReadOnlyList<CellValue>>();
        for (int row = 0; row < rows; row++)
        {
            cells.Add([.. isReal.Select(Cell)]);
        }

        return new DataTable(id, name, header, isReal, cells);
    }

    /// <summary>A question whose query the table's first row satisfies, when the table has rows.</summary>
    /// <param name="table">The table.</param>
    public TableQuestion Question(DataTable table)
    {
        var aggregate = (Aggregate)_random.PickWeighted([34, 14, 14, 14, 12, 12]);
        int count = _random.PickWeighted([12, 53, 35]);
        bool needsNumber = aggregate is not (Aggregate.None or Aggregate.Count);
        int column;
        do
        {
            column = _random.Next(table.Header.Count);
        }
        while (needsNumber && !table.IsReal[column]);

        List<int> others = [.. Enumerable.Range(0, table.Header.Count).Where(other => other != column)];
        _random.Shuffle(others);
        var conditions = others.Take(count).Select(other => Condition(table, other)).ToList();
        var query = new TableQuery(column, aggregate, conditions);
        return new TableQuestion(table, query, QuestionTemplates.Ask(_random, table, query));
    }

    private Condition Condition(DataTable table, int column)
    {
        if (!table.IsReal[column])
        {
            return new Condition(column, Comparison.Equal, table.Rows.Count > 0 ? table.Rows[0][column] : Cell(real: false));
        }

        var comparison = (Comparison)_random.Next(3);
        if (table.Rows.Count == 0)
        {
            return new Condition(column, comparison, Cell(real: true));
        }

        // A bound that the first row's value keeps; where the pool has no smaller number, the value itself is asked for.
        CellValue first = table.Rows[0][column];
        int? bound = comparison == Comparison.Equal
            ? null
            : _words.NumberBeside(first.Number, above: comparison == Comparison.Less);
        return bound is int number
            ? new Condition(column, comparison, CellValue.Of(number))
            : new Condition(column, Comparison.Equal, first);
    }

    private CellValue Cell(bool real) => real ? CellValue.Of(_words.Number()) : CellValue.Of(_words.Text());
}

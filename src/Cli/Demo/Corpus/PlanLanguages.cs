namespace Engine.Cli.Demo;

/// <summary>A language in which the base corpus answers questions.</summary>
/// <param name="Tag">What announces it in the prompt.</param>
/// <param name="Render">Renders a query in it.</param>
internal sealed record PlanLanguage(string Tag, Func<DataTable, TableQuery, string> Render);

/// <summary>
/// The languages of the base corpus. They name the same parts (table, column, aggregate, conditions) in every order
/// and with many kinds of punctuation, so that a model has to understand the question rather than learn one
/// rendering. None of them is SQL or pandas; those two first appear in the adapters' training rows.
/// </summary>
internal static class PlanLanguages
{
    /// <summary>The languages that state the whole query.</summary>
    public static IReadOnlyList<PlanLanguage> Whole { get; } =
    [
        new("english", English),
        new("json", Json),
        new("lisp", Lisp),
        new("flow", Flow),
        new("keys", Keys),
        new("terse", Terse),
        new("postfix", Postfix),
        new("call", Call),
        new("list", Listing),
        new("arrow", Arrow),
        new("logic", Logic),
        new("path", Path),
        new("index", Index),
        new("dotted", Dotted),
        new("report", Report),
        new("triples", Triples),
    ];

    /// <summary>The exercises that state one part of the query.</summary>
    public static IReadOnlyList<PlanLanguage> Parts { get; } =
    [
        new("table", (t, _) => t.Name),
        new("column", (t, q) => t.Header[q.Column]),
        new("columns", (t, _) => string.Join(", ", t.Header)),
        new("rest", (t, q) => string.Join(", ", t.Header.Where((_, i) => i != q.Column && q.Conditions.All(c => c.Column != i)).DefaultIfEmpty("none"))),
        new("reduce", (_, q) => By(q, "list", "max", "min", "count", "sum", "mean")),
        new("reduced", (t, q) => $"{By(q, "list", "max", "min", "count", "sum", "mean")} {t.Header[q.Column]}"),
        new("values", (_, q) => Conditions(q, ", ", c => c.Value.Text)),
        new("quoted", (_, q) => Conditions(q, ", ", c => c.Value.Quoted('\''))),
        new("tested", (t, q) => Conditions(q, ", ", c => t.Header[c.Column])),
        new("tests", (t, q) => Conditions(q, " & ", c => $"{t.Header[c.Column]}{By(c, "=", ">", "<")}{c.Value.Quoted('\'')}")),
        new("form", (_, q) => Conditions(q, " ", c => $"{By(c, "=", ">", "<")}{(c.Value.IsNumber ? "0" : "a")}")),
    ];

    private static string English(DataTable t, TableQuery q)
    {
        string what = By(q, "every value", "the largest value", "the smallest value", "the number of values", "the sum", "the mean");
        string which = q.Conditions.Count == 0
            ? "over all rows"
            : "such that " + Join(q, " and ", c => $"{t.Header[c.Column]} is {By(c, "exactly", "above", "below")} {c.Value.Text}");
        return $"take {what} of {t.Header[q.Column]} in {t.Name} {which}.";
    }

    private static string Json(DataTable t, TableQuery q)
    {
        string tests = Join(q, ", ", c => $"[\"{t.Header[c.Column]}\", \"{By(c, "=", ">", "<")}\", {c.Value.Quoted('"')}]");
        return $"{{\"get\": \"{t.Header[q.Column]}\", \"how\": \"{By(q, "list", "max", "min", "count", "sum", "avg")}\", \"of\": \"{t.Name}\", \"if\": [{tests}]}}";
    }

    private static string Lisp(DataTable t, TableQuery q)
    {
        string tests = Join(q, "", c => $" ({By(c, "=", ">", "<")} {t.Header[c.Column]} {c.Value.Quoted('"')})");
        return $"({By(q, "list", "max", "min", "count", "sum", "mean")} {t.Header[q.Column]} ({t.Name}{tests}))";
    }

    private static string Flow(DataTable t, TableQuery q) =>
        $"{t.Name}{Join(q, "", c => $" | keep {t.Header[c.Column]} {By(c, "==", ">", "<")} {c.Value.Quoted('\'')}")} | take {t.Header[q.Column]} | {By(q, "list", "max", "min", "count", "sum", "mean")}";

    private static string Keys(DataTable t, TableQuery q) =>
        $"table={t.Name}; column={t.Header[q.Column]}; reduce={By(q, "none", "max", "min", "count", "sum", "mean")}{Join(q, "", c => $"; test={t.Header[c.Column]} {By(c, "eq", "gt", "lt")} {c.Value.Text}")}";

    private static string Terse(DataTable t, TableQuery q)
    {
        string tests = Join(q, " AND ", c => $"{t.Header[c.Column]} {By(c, "IS", "OVER", "UNDER")} {c.Value.Quoted('"')}");
        return $"{By(q, "GET", "MAX", "MIN", "COUNT", "SUM", "AVG")} OF {t.Header[q.Column]} IN {t.Name}{(tests.Length > 0 ? " IF " : "")}{tests}";
    }

    private static string Postfix(DataTable t, TableQuery q) =>
        $"{t.Name}{Join(q, "", c => $" {t.Header[c.Column]} {c.Value.Text} {By(c, "equal", "more", "less")} keep")} {t.Header[q.Column]} {By(q, "list", "max", "min", "count", "sum", "mean")} !";

    private static string Call(DataTable t, TableQuery q)
    {
        string tests = Join(q, "", c => $", {By(c, "eq", "gt", "lt")}({t.Header[c.Column]}, {c.Value.Quoted('\'')})");
        return $"{By(q, "each", "max", "min", "count", "sum", "mean")}({t.Name}.{t.Header[q.Column]}{tests})";
    }

    private static string Listing(DataTable t, TableQuery q)
    {
        string tests = Join(q, "", c => $"\n- {t.Header[c.Column]} {By(c, "=", ">", "<")} {c.Value.Text}");
        return $"{By(q, "values", "maximum", "minimum", "number", "total", "average")} of {t.Header[q.Column]} in {t.Name}{(tests.Length > 0 ? " with" : "")}{tests}";
    }

    private static string Arrow(DataTable t, TableQuery q) =>
        $"{t.Header[q.Column]} <- {t.Name}[{Join(q, "; ", c => $"{t.Header[c.Column]}{By(c, "=", ">", "<")}{c.Value.Quoted('"')}")}] -> {By(q, "all", "max", "min", "count", "sum", "mean")}";

    private static string Logic(DataTable t, TableQuery q) =>
        $"{By(q, "X", "max X", "min X", "count X", "sum X", "mean X")} : {t.Name}.{t.Header[q.Column]} = X{Join(q, "", c => $" & {t.Name}.{t.Header[c.Column]} {By(c, "=", ">", "<")} {c.Value.Quoted('\'')}")}";

    private static string Path(DataTable t, TableQuery q) =>
        $"/{t.Name}{Join(q, "", c => $"/{t.Header[c.Column]}{By(c, "==", ">", "<")}{c.Value.Text}")}/{t.Header[q.Column]}/{By(q, "list", "max", "min", "count", "sum", "mean")}";

    private static string Index(DataTable t, TableQuery q)
    {
        string tests = Join(q, " & ", c => $"[{t.Header[c.Column]}] {By(c, "==", ">", "<")} {c.Value.Quoted('"')}");
        return $"{t.Name} [{tests}] [{t.Header[q.Column]}] {By(q, "list", "max", "min", "count", "sum", "mean")}()";
    }

    private static string Dotted(DataTable t, TableQuery q)
    {
        string tests = Join(q, ").and(", c => $"{t.Name}.{t.Header[c.Column]}.{By(c, "is", "over", "under")}({c.Value.Quoted('\'')})");
        return $"{t.Name}({tests}).{t.Header[q.Column]}.{By(q, "list", "top", "bottom", "size", "total", "mean")}";
    }

    private static string Report(DataTable t, TableQuery q)
    {
        string which = q.Conditions.Count == 0 ? "any row" : Join(q, " + ", c => $"{c.Value.Text} {By(c, "at", "below", "above")} {t.Header[c.Column]}");
        return $"{which} -> {t.Name} -> {t.Header[q.Column]} -> {By(q, "show", "highest", "lowest", "how many", "add", "typical")}";
    }

    private static string Triples(DataTable t, TableQuery q)
    {
        string tests = Join(q, "", c => $"({t.Header[c.Column]}, {By(c, "=", ">", "<")}, {c.Value.Quoted('\'')}), ");
        return $"{{{tests}({t.Header[q.Column]}, {By(q, "get", "max", "min", "count", "sum", "avg")}, {t.Name})}}";
    }

    private static string Conditions(TableQuery q, string separator, Func<Condition, string> render) =>
        q.Conditions.Count == 0 ? "none" : Join(q, separator, render);

    private static string Join(TableQuery q, string separator, Func<Condition, string> render) =>
        string.Join(separator, q.Conditions.Select(render));

    private static string By(TableQuery q, params ReadOnlySpan<string> words) => words[(int)q.Aggregate];

    private static string By(Condition c, params ReadOnlySpan<string> words) => words[(int)c.Comparison];
}

using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests.Data;

[Trait("Device", "Cpu")]
public class WikiSqlTests
{
    private const string Tables = """
        {"id":"1-10","header":["Player","Years in Toronto","no"],"types":["text","text","real"],"rows":[["a","b",1]]}
        {"id":"2","header":["x"],"types":["text"],"rows":[],"name":"t2"}
        """;

    private static DataSet Load(string rows, string? tables = Tables)
    {
        using var directory = new TemporaryDirectory();
        if (tables is not null)
        {
            directory.Write("dev.tables.jsonl", tables);
        }

        return DataReader.Load(directory.Write("dev.jsonl", rows));
    }

    [Theory]
    [InlineData("""{"sel":0,"agg":0,"conds":[]}""", "SELECT Player FROM table")]
    [InlineData("""{"sel":2,"agg":1,"conds":[[0,0,"O'Neal"],[2,1,3.50]]}""", "SELECT MAX(no) FROM table WHERE Player = 'O''Neal' AND no > 3.50")]
    [InlineData("""{"sel":1,"agg":3,"conds":[[1,2,"2000"]]}""", "SELECT COUNT(\"Years in Toronto\") FROM table WHERE \"Years in Toronto\" < '2000'")]
    public void Renders_the_query(string sql, string expected)
    {
        DataSet data = Load($$"""{"phase":1,"table_id":"1-10","question":"Who?","sql":{{sql}}}""");
        Assert.Equal(DataFormat.WikiSql, data.Format);
        Assert.Equal([new("table(Player, Years in Toronto, no)\nWho?\nsql:\n", false), new(expected, true)], data.Rows[0].Segments);
    }

    [Fact]
    public void Another_language_brings_its_answer()
    {
        DataSet data = Load("""{"table_id":"2","question":"q","language":"pandas","answer":"df['x'].max()","sql":{"sel":0,"agg":1,"conds":[]}}""");
        Assert.Equal([new("t2(x)\nq\npandas:\n", false), new("df['x'].max()", true)], data.Rows[0].Segments);
    }

    [Theory]
    [InlineData("""{"table_id":"3","question":"q","sql":{"sel":0}}""", "dev.jsonl:1: table_id is \"3\"")]
    [InlineData("""{"table_id":"2","sql":{"sel":0}}""", "question is missing")]
    [InlineData("""{"table_id":"2","question":"q"}""", "sql is missing")]
    [InlineData("""{"table_id":"2","question":"q","sql":{}}""", "sql.sel is missing")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":1}}""", "sql.sel is 1; a column index below 1")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":0,"agg":6}}""", "sql.agg is 6; an index below 6")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":0,"conds":5}}""", "sql.conds is 5; a list")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":0,"conds":[[0,3,"x"]]}}""", "sql.conds is [[0,3,\"x\"]]; a list of [column index, operator 0 to 2")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":0,"conds":[[1,0,"x"]]}}""", "a column index below 1")]
    [InlineData("""{"table_id":"2","question":"q","sql":{"sel":0,"conds":[[0,0,"\udc00"]]}}""", "sql.conds holds an escape")]
    public void Explains_what_is_wrong(string row, string expected) =>
        Assert.Contains(expected, Assert.Throws<EngineDataException>(() => Load(row)).Message);

    [Theory]
    [InlineData(null, "dev.tables.jsonl: there is no such file")]
    [InlineData("", "dev.tables.jsonl: the file has no tables")]
    [InlineData("{\"id\":\"2\"}", "dev.tables.jsonl:1: header is missing")]
    [InlineData("{\"id\":\"2\",\"header\":[]}\n{\"id\":\"2\",\"header\":[]}", "dev.tables.jsonl:2: id is \"2\"")]
    public void Explains_wrong_tables(string? tables, string expected) =>
        Assert.Contains(expected, Assert.Throws<EngineDataException>(() => Load("""{"table_id":"2","question":"q","sql":{"sel":0}}""", tables)).Message);
}

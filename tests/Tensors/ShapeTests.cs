namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class ShapeTests
{
    [Fact]
    public void A_collection_expression_builds_a_shape()
    {
        Shape shape = [8, 1024, 64];
        Assert.Equal(3, shape.Rank);
        Assert.Equal(8 * 1024 * 64, shape.Elements);
        Assert.Equal([8, 1024, 64], shape.ToArray());
        Assert.Equal(8, shape[0]);
        Assert.Equal(64, shape[^1]);
        Assert.Equal(8, shape[^3]);
    }

    [Fact]
    public void A_collection_expression_spreads_another_shape()
    {
        Shape tail = [3, 4];
        Shape shape = [2, .. tail];
        Assert.Equal(new Shape(2, 3, 4), shape);
    }

    [Fact]
    public void The_empty_shape_is_a_scalar()
    {
        Shape scalar = [];
        Assert.Equal(0, scalar.Rank);
        Assert.Equal(1, scalar.Elements);
        Assert.Equal(default, scalar);
        Assert.Equal("[]", scalar.ToString());
    }

    [Fact]
    public void Six_dimensions_are_the_most()
    {
        Shape six = [1, 2, 3, 4, 5, 6];
        Assert.Equal(720, six.Elements);
        Assert.Equal([1, 2, 3, 4, 5, 6], six.ToArray());
        string message = Assert.Throws<ArgumentException>(() => new Shape(1, 1, 1, 1, 1, 1, 1)).Message;
        Assert.Contains("6", message);
        Assert.Contains("7", message);
    }

    [Fact]
    public void A_negative_extent_is_refused_by_place_and_value()
    {
        string message = Assert.Throws<ArgumentException>(() => new Shape(2, -3)).Message;
        Assert.Contains("extent 1", message);
        Assert.Contains("-3", message);
    }

    [Fact]
    public void A_product_that_cannot_be_counted_is_refused()
    {
        const int Max = int.MaxValue;

        // (2³¹ − 1)² is about 2⁶²; times 8 bytes it would wrap around. Six extents would wrap in the product itself.
        Assert.Throws<ArgumentException>(() => new Shape(Max, Max));
        Assert.Throws<ArgumentException>(() => new Shape(Max, Max, Max, Max, Max, Max));

        // 2⁶⁴ elements: the wrapped product is zero.
        Assert.Throws<ArgumentException>(() => new Shape(1 << 16, 1 << 16, 1 << 16, 1 << 16));
        Assert.Throws<ArgumentException>(() => new Shape(1 << 30, 1 << 30));
    }

    [Fact]
    public void The_largest_counts_are_exact()
    {
        Assert.Equal((1L << 30) * ((1L << 30) - 1), new Shape(1 << 30, (1 << 30) - 1).Elements);

        // 2⁶⁰ − 1 = 3² · 5² · 7 · 11 · 13 · 31 · 41 · 61 · 151 · 331 · 1321
        Assert.Equal(Shape.MaxElements, new Shape(9 * 25 * 7 * 11 * 13, 31 * 41 * 61, 151 * 331, 1321).Elements);
    }

    [Fact]
    public void A_zero_extent_makes_any_shape_empty()
    {
        Assert.Equal(0, new Shape(int.MaxValue, int.MaxValue, int.MaxValue, 0).Elements);
        Assert.Equal(0, new Shape(0, int.MaxValue, int.MaxValue, int.MaxValue).Elements);
        Assert.Equal(0, new Shape(3, 0, 4).Elements);
    }

    [Fact]
    public void Equality_looks_at_rank_and_every_extent()
    {
        Shape shape = [2, 3];
        Shape same = [2, 3];
        Assert.True(shape == same);
        Assert.False(shape != same);
        Assert.True(shape.Equals((object)same));
        Assert.Equal(shape.GetHashCode(), same.GetHashCode());
        Assert.True(shape != [3, 2]);
        Assert.True(shape != [2, 3, 1]);
        Assert.True(shape != [2]);
        Assert.True(shape != []);
        Assert.False(shape.Equals("[2, 3]"));
        Assert.False(shape.Equals(null));
    }

    [Fact]
    public void Equality_ignores_what_lies_beyond_the_rank() =>
        Assert.Equal(new Shape(2, 3), Shape.Create(new[] { 2, 3, 9 }.AsSpan(0, 2)));

    [Fact]
    public void With_replaces_one_extent_in_a_copy()
    {
        Shape shape = [2, 3, 4];
        Assert.Equal(new Shape(2, 7, 4), shape.With(1, 7));
        Assert.Equal(new Shape(2, 3, 0), shape.With(^1, 0));
        Assert.Equal(new Shape(2, 3, 4), shape);
        Assert.Throws<ArgumentException>(() => shape.With(0, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => shape.With(3, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => shape.With(^4, 1));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(6)]
    public void An_index_past_the_rank_is_refused(int index)
    {
        Shape shape = [2, 3];
        Assert.Throws<ArgumentOutOfRangeException>(() => shape[index]);
        Assert.Throws<ArgumentOutOfRangeException>(() => shape[^(index + 1)]);
    }

    [Fact]
    public void ToString_lists_the_extents()
    {
        Assert.Equal("[8, 1024, 64]", new Shape(8, 1024, 64).ToString());
        Assert.Equal("[0]", new Shape(0).ToString());
    }
}

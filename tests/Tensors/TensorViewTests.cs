namespace Engine.Tensors.Tests;

/// <summary>Views over one tensor of 0, 1, 2, …: what they see, that they share, and that they let go.</summary>
[Trait("Device", "Cpu")]
public sealed class TensorViewTests : IDisposable
{
    private readonly CpuDevice _device = new();

    public void Dispose()
    {
        Assert.Equal(0, _device.LiveStorages);
        Assert.Equal(0, _device.LiveBytes);
        _device.Trim();
    }

    [Fact]
    public void Reshape_keeps_the_elements_in_order()
    {
        using Tensor tensor = Count([2, 3, 4]);
        using Tensor view = tensor.Reshape(4, 6);
        Assert.Equal(new Shape(4, 6), view.Shape);
        Assert.Equal(tensor.Pointer, view.Pointer);
        Assert.Equal(2, tensor.Storage.Owners);
        Assert.Equal(tensor.ToArray<int>(), view.ToArray<int>());
        view.Span<int>()[5] = -5;
        Assert.Equal(-5, tensor.Span<int>()[5]);
    }

    [Theory]
    [InlineData(new[] { -1 }, new[] { 24 })]
    [InlineData(new[] { -1, 6 }, new[] { 4, 6 })]
    [InlineData(new[] { 2, -1, 2 }, new[] { 2, 6, 2 })]
    [InlineData(new[] { 24, -1 }, new[] { 24, 1 })]
    [InlineData(new[] { 1, 2, 3, 4, 1, -1 }, new[] { 1, 2, 3, 4, 1, 1 })]
    public void Reshape_infers_one_extent(int[] wanted, int[] expected)
    {
        using Tensor tensor = Count([2, 3, 4]);
        using Tensor view = tensor.Reshape(wanted);
        Assert.Equal(new Shape(expected), view.Shape);
    }

    [Theory]
    [InlineData(new[] { 5, 5 })]
    [InlineData(new[] { -1, 5 })]
    [InlineData(new[] { -1, -1 })]
    [InlineData(new[] { -2, 12 })]
    [InlineData(new[] { 0, -1 })]
    [InlineData(new int[0])]
    [InlineData(new[] { 1, 1, 1, 1, 1, 1, 24 })]
    public void Reshape_refuses_another_number_of_elements(int[] wanted)
    {
        using Tensor tensor = Count([2, 3, 4]);
        Assert.Throws<ArgumentException>(() => tensor.Reshape(wanted));
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void Reshape_names_both_shapes()
    {
        using Tensor tensor = Count([2, 3]);
        string message = Assert.Throws<ArgumentException>(() => tensor.Reshape(4, 2)).Message;
        Assert.Contains("[2, 3]", message);
        Assert.Contains("[4, 2]", message);
    }

    [Fact]
    public void Reshape_takes_zero_extents()
    {
        using Tensor tensor = Count([0, 3]);
        using Tensor flat = tensor.Reshape(-1);
        Assert.Equal(new Shape(0), flat.Shape);
        using Tensor wide = tensor.Reshape(7, 0, 2);
        Assert.Equal(new Shape(7, 0, 2), wide.Shape);
        using Tensor inferred = tensor.Reshape(5, -1);
        Assert.Equal(new Shape(5, 0), inferred.Shape);
        using Tensor ambiguous = tensor.Reshape(0, -1);
        Assert.Equal(new Shape(0, 0), ambiguous.Shape);
        Assert.Throws<ArgumentException>(() => tensor.Reshape(1));
    }

    [Fact]
    public void Reshape_of_a_scalar()
    {
        using Tensor scalar = Count([]);
        using Tensor one = scalar.Reshape(1, 1);
        using Tensor back = one.Reshape();
        Assert.Equal(new Shape(), back.Shape);
        Assert.Equal([0], back.ToArray<int>());
    }

    [Fact]
    public void Reshape_refuses_an_inferred_extent_beyond_32_bits()
    {
        // No byte is ever touched: only the description of the tensor is large.
        using var tensor = new Tensor(Storage.Wrap(_device, 64, 1L << 32, null), DType.U8, [1 << 16, 1 << 16], Strides.Contiguous([1 << 16, 1 << 16]));
        Assert.Contains("4294967296", Assert.Throws<ArgumentException>(() => tensor.Reshape(-1)).Message);
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void Reshape_refuses_gaps()
    {
        using Tensor tensor = Count([2, 3]);
        using Tensor transposed = tensor.Transpose(0, 1);
        Assert.Throws<InvalidOperationException>(() => transposed.Reshape(6));
        Assert.Equal(2, tensor.Storage.Owners);
    }

    [Fact]
    public void Slice_of_the_outer_dimension_is_contiguous()
    {
        using Tensor tensor = Count([4, 3]);
        using Tensor rows = tensor.Slice(0, 1, 2);
        Assert.Equal(new Shape(2, 3), rows.Shape);
        Assert.Equal(3, rows.Offset);
        Assert.True(rows.IsContiguous);
        Assert.Equal([3, 4, 5, 6, 7, 8], rows.ToArray<int>());
        Assert.Equal([3, 4, 5, 6, 7, 8], rows.Span<int>().ToArray());
    }

    [Fact]
    public void Slice_of_the_inner_dimension_has_gaps()
    {
        using Tensor tensor = Count([3, 4]);
        using Tensor columns = tensor.Slice(^1, 1, 2);
        Assert.False(columns.IsContiguous);
        Assert.Equal([1, 2, 5, 6, 9, 10], columns.ToArray<int>());
    }

    [Fact]
    public void Slice_takes_empty_and_whole_ranges()
    {
        using Tensor tensor = Count([3, 4]);
        using Tensor whole = tensor.Slice(0, 0, 3);
        Assert.Equal(tensor.ToArray<int>(), whole.ToArray<int>());
        foreach ((int dimension, int start) in new[] { (0, 0), (0, 3), (1, 2), (1, 4) })
        {
            using Tensor empty = tensor.Slice(dimension, start, 0);
            Assert.Equal(0, empty.Elements);
            Assert.True(empty.IsContiguous);
            Assert.Empty(empty.ToArray<int>());
            Assert.Equal(0, empty.Span<int>().Length);
        }
    }

    [Theory]
    [InlineData(0, -1, 1)]
    [InlineData(0, 0, -1)]
    [InlineData(0, 0, 4)]
    [InlineData(0, 3, 1)]
    [InlineData(1, 2, 3)]
    [InlineData(1, int.MaxValue, int.MaxValue)]
    [InlineData(2, 0, 1)]
    public void Slice_refuses_what_lies_outside(int dimension, int start, int length)
    {
        using Tensor tensor = Count([3, 4]);
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(dimension, start, length));
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(^3, 0, 1));
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void Transpose_exchanges_dimensions()
    {
        using Tensor tensor = Count([2, 3]);
        using Tensor transposed = tensor.Transpose(0, 1);
        Assert.Equal(new Shape(3, 2), transposed.Shape);
        Assert.Equal([0, 3, 1, 4, 2, 5], transposed.ToArray<int>());
        using Tensor back = transposed.Transpose(^1, ^2);
        Assert.True(back.IsContiguous);
        Assert.Equal(tensor.ToArray<int>(), back.ToArray<int>());
        using Tensor same = tensor.Transpose(1, 1);
        Assert.True(same.IsContiguous);
        Assert.Equal(new Shape(2, 3), same.Shape);
    }

    [Fact]
    public void Transpose_of_four_dimensions_matches_index_arithmetic()
    {
        using Tensor tensor = Count([2, 3, 4, 5]);
        using Tensor heads = tensor.Transpose(1, 2);
        int[] elements = heads.ToArray<int>();
        int at = 0;
        for (int b = 0; b < 2; b++)
        {
            for (int h = 0; h < 4; h++)
            {
                for (int t = 0; t < 3; t++)
                {
                    for (int d = 0; d < 5; d++)
                    {
                        Assert.Equal((((((b * 3) + t) * 4) + h) * 5) + d, elements[at++]);
                    }
                }
            }
        }
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(2, 0)]
    [InlineData(7, 7)]
    public void Transpose_refuses_an_absent_dimension_and_keeps_no_share(int first, int second)
    {
        using Tensor tensor = Count([2, 3]);
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Transpose(first, second));
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void Nested_views_add_their_offsets()
    {
        using Tensor tensor = Count([4, 5, 6]);
        using Tensor middle = tensor.Slice(0, 1, 3);
        using Tensor turned = middle.Transpose(0, 2);
        using Tensor part = turned.Slice(0, 2, 2);
        using Tensor corner = part.Slice(1, 3, 2);
        Assert.Equal(new Shape(2, 2, 3), corner.Shape);
        Assert.Equal((1 * 30) + 2 + (3 * 6), corner.Offset);
        Assert.Equal(5, tensor.Storage.Owners);
        var expected = new List<int>();
        for (int z = 2; z < 4; z++)
        {
            for (int y = 3; y < 5; y++)
            {
                for (int x = 1; x < 4; x++)
                {
                    expected.Add((x * 30) + (y * 6) + z);
                }
            }
        }

        Assert.Equal(expected, corner.ToArray<int>());
    }

    [Fact]
    public void A_view_of_a_slice_reshapes_from_its_offset()
    {
        using Tensor tensor = Count([4, 6]);
        using Tensor row = tensor.Slice(0, 2, 1);
        using Tensor square = row.Reshape(2, 3);
        Assert.Equal([12, 13, 14, 15, 16, 17], square.ToArray<int>());
        using Tensor copy = row.Clone();
        Assert.Equal(0, copy.Offset);
        Assert.Equal([12, 13, 14, 15, 16, 17], copy.ToArray<int>());
    }

    [Fact]
    public void A_broadcast_view_repeats_elements()
    {
        using Tensor row = Count([3]);
        using var repeated = new Tensor(row.Storage.Retain(), DType.I32, [2, 3], new Strides(0, 1));
        Assert.Equal([0, 1, 2, 0, 1, 2], repeated.ToArray<int>());
    }

    [Fact]
    public void A_view_outlives_its_tensor()
    {
        Tensor tensor = Count([2, 3]);
        using Tensor row = tensor.Slice(0, 1, 1);
        tensor.Dispose();
        Assert.True(tensor.IsDisposed);
        Assert.Equal(1, _device.LiveStorages);
        Assert.Equal([3, 4, 5], row.ToArray<int>());
        Assert.Throws<ObjectDisposedException>(() => tensor.Slice(0, 0, 1));
        Assert.Throws<ObjectDisposedException>(() => tensor.Reshape(6));
        Assert.Throws<ObjectDisposedException>(() => tensor.Transpose(0, 1));
        Assert.Throws<ObjectDisposedException>(() => tensor.Share());
        Assert.Equal(1, row.Storage.Owners);
    }

    [Theory]
    [InlineData(new[] { 3, 4 }, new long[] { 4, 1 }, 1)]
    [InlineData(new[] { 3, 4 }, new long[] { 5, 1 }, 0)]
    [InlineData(new[] { 3, 4 }, new long[] { 4, 1 }, -1)]
    [InlineData(new[] { 3, 4 }, new long[] { -4, 1 }, 0)]
    [InlineData(new[] { 13 }, new long[] { 1 }, 0)]
    [InlineData(new[] { 1 }, new long[] { 1 }, 12)]
    [InlineData(new[] { int.MaxValue, int.MaxValue >> 4 }, new[] { long.MaxValue, long.MaxValue }, 0)]
    [InlineData(new[] { 3, 4 }, new long[] { 1 }, 0)]
    public void A_description_that_leaves_the_storage_is_refused(int[] extents, long[] strides, long offset)
    {
        Storage storage = _device.Allocate(12 * sizeof(int));
        Assert.Throws<ArgumentException>(() => new Tensor(storage, DType.I32, new Shape(extents), new Strides(strides), offset));
        storage.Release();
    }

    [Fact]
    public void A_description_that_just_fits_is_taken()
    {
        using Tensor tensor = Count([12]);
        using var reversed = new Tensor(tensor.Storage.Retain(), DType.I32, [3, 4], new Strides(-4, -1), 11);
        Assert.Equal([11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], reversed.ToArray<int>());
    }

    private Tensor Count(Shape shape) => Tensor.From([.. Enumerable.Range(0, (int)shape.Elements)], shape, _device);
}

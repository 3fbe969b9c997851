namespace Engine.Tensors.Tests;

/// <summary>Creating, filling, reading, cloning and moving tensors, and what each refuses.</summary>
[Trait("Device", "Cpu")]
public sealed class TensorCopyTests : IDisposable
{
    private readonly CpuDevice _device = new();

    public void Dispose()
    {
        Assert.Equal(0, _device.LiveStorages);
        _device.Trim();
    }

    [Fact]
    public void Zeros_are_zero_in_memory_that_was_used_before()
    {
        using (Tensor dirty = Tensor.Empty([100], DType.U8, _device))
        {
            dirty.Span<byte>().Fill(0xFF);
        }

        using Tensor zeros = Tensor.Zeros([100], DType.U8, _device);
        Assert.Equal(new byte[100], zeros.ToArray<byte>());
    }

    [Fact]
    public void Tensors_like_another_have_its_shape()
    {
        using Tensor tensor = Tensor.From([1f, 2, 3, 4, 5, 6], [2, 3], _device);
        using Tensor turned = tensor.Transpose(0, 1);
        using Tensor like = turned.EmptyLike();
        Assert.Equal("f32[3, 2] on cpu", like.ToString());
        Assert.True(like.IsContiguous);
        using Tensor other = tensor.EmptyLike(DType.BF16);
        Assert.Equal("bf16[2, 3] on cpu", other.ToString());
        using Tensor zeros = tensor.ZerosLike();
        Assert.Equal(new float[6], zeros.ToArray<float>());
        Assert.NotEqual(tensor.Pointer, zeros.Pointer);
    }

    [Fact]
    public void From_refuses_another_number_of_elements_and_allocates_nothing()
    {
        string message = Assert.Throws<ArgumentException>(() => Tensor.From([1f, 2], [3], _device)).Message;
        Assert.Contains("2 elements", message);
        Assert.Contains("[3]", message);
        Assert.Throws<ArgumentException>(() => Tensor.From(new short[3], [3], _device));
        Assert.Throws<ArgumentNullException>(() => Tensor.Empty([3], DType.F32, null!));
        Assert.Equal(0, _device.PeakBytes);
    }

    [Fact]
    public void CopyFrom_fills_and_refuses()
    {
        using Tensor tensor = Tensor.Zeros([2, 3], DType.F32, _device);
        tensor.CopyFrom<float>([1, 2, 3, 4, 5, 6]);
        Assert.Equal([1, 2, 3, 4, 5, 6], tensor.ToArray<float>());
        using Tensor row = tensor.Slice(0, 1, 1);
        row.CopyFrom<float>([7, 8, 9]);
        Assert.Equal([1, 2, 3, 7, 8, 9], tensor.ToArray<float>());

        Assert.Throws<InvalidOperationException>(() => tensor.CopyFrom<float>([1, 2, 3, 4, 5]));
        Assert.Throws<InvalidOperationException>(() => tensor.CopyFrom<float>([1, 2, 3, 4, 5, 6, 7]));
        Assert.Throws<InvalidOperationException>(() => tensor.CopyFrom<int>([1, 2, 3, 4, 5, 6]));
        using Tensor turned = tensor.Transpose(0, 1);
        Assert.Throws<InvalidOperationException>(() => turned.CopyFrom<float>([1, 2, 3, 4, 5, 6]));
        Assert.Equal([1, 2, 3, 7, 8, 9], tensor.ToArray<float>());
    }

    [Fact]
    public void Reading_refuses_another_element_type()
    {
        using Tensor tensor = Tensor.Zeros([2], DType.BF16, _device);
        Assert.Contains("bf16[2]", Assert.Throws<InvalidOperationException>(() => tensor.ToArray<float>()).Message);
        Assert.Throws<InvalidOperationException>(() => tensor.ToArray<Half>());
        Assert.Throws<InvalidOperationException>(() => tensor.Span<Half>());
        Assert.Throws<ArgumentException>(() => tensor.Span<ushort>());
    }

    [Fact]
    public void Span_HostBytes_Clone_Clear_and_To_refuse_gaps()
    {
        using Tensor tensor = Tensor.Zeros([2, 3], DType.F32, _device);
        using Tensor turned = tensor.Transpose(0, 1);
        Assert.Throws<InvalidOperationException>(() => turned.Span<float>());
        Assert.Throws<InvalidOperationException>(() => turned.HostBytes());
        Assert.Throws<InvalidOperationException>(turned.Clone);
        Assert.Throws<InvalidOperationException>(turned.Clear);
        Assert.Throws<InvalidOperationException>(() => turned.To(new CpuDevice()));
        Assert.Throws<ArgumentNullException>(() => turned.To(null!));
    }

    [Fact]
    public void Clear_stays_inside_a_view()
    {
        using Tensor tensor = Tensor.From([1, 2, 3, 4, 5, 6], [3, 2], _device);
        using Tensor row = tensor.Slice(0, 1, 1);
        row.Clear();
        Assert.Equal([1, 2, 0, 0, 5, 6], tensor.ToArray<int>());
    }

    [Fact]
    public void Clone_copies_into_memory_of_its_own()
    {
        using Tensor tensor = Tensor.From([1, 2, 3], [3], _device);
        using Tensor clone = tensor.Clone();
        clone.Span<int>()[0] = 9;
        Assert.Equal([1, 2, 3], tensor.ToArray<int>());
        Assert.Equal([9, 2, 3], clone.ToArray<int>());
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void To_the_same_device_shares()
    {
        using Tensor tensor = Tensor.From([1, 2, 3], [3], _device);
        using Tensor there = tensor.To(_device);
        Assert.NotSame(tensor, there);
        Assert.Same(tensor.Storage, there.Storage);
        Assert.Equal(2, tensor.Storage.Owners);
        using Tensor turned = there.Reshape(3, 1).Also(view => view.Transpose(0, 1));
        using Tensor same = turned.To(_device);
        Assert.Equal(turned.Shape, same.Shape);
    }

    [Fact]
    public void To_another_host_device_copies()
    {
        var other = new CpuDevice();
        using (Tensor tensor = Tensor.From([1, 2, 3], [3], _device))
        using (Tensor there = tensor.To(other))
        {
            Assert.Same(other, there.Device);
            Assert.Equal([1, 2, 3], there.ToArray<int>());
            Assert.NotEqual(tensor.Pointer, there.Pointer);
            Assert.Equal(1, other.LiveStorages);
        }

        Assert.Equal(0, other.LiveStorages);
        other.Trim();
    }

    [Fact]
    public void A_remote_device_is_reached_by_copies_alone()
    {
        var first = new RemoteDevice();
        var second = new RemoteDevice();
        using (Tensor host = Tensor.From([0, 1, 2, 3, 4, 5], [2, 3], _device))
        using (Tensor row = host.Slice(0, 1, 1))
        using (Tensor remote = row.To(first))
        using (Tensor further = remote.To(second))
        using (Tensor back = further.To(_device))
        {
            Assert.Equal("i32[1, 3] on remote", remote.ToString());
            Assert.Equal([3, 4, 5], remote.ToArray<int>());
            Assert.Equal([3, 4, 5], further.ToArray<int>());
            Assert.Equal([3, 4, 5], back.ToArray<int>());
            remote.CopyFrom<int>([7, 8, 9]);
            using Tensor column = remote.Slice(1, 1, 2).Also(view => view.Transpose(0, 1));
            Assert.Equal([8, 9], column.ToArray<int>());
            using Tensor clone = remote.Clone();
            Assert.Equal([7, 8, 9], clone.ToArray<int>());
            clone.Clear();
            Assert.Equal([0, 0, 0], clone.ToArray<int>());
            Assert.Throws<InvalidOperationException>(() => remote.Span<int>());
            Assert.Throws<InvalidOperationException>(() => remote.HostBytes());
        }

        Assert.Equal(0, first.LiveStorages);
        Assert.Equal(0, second.LiveStorages);
    }

    [Fact]
    public void A_move_of_more_bytes_than_a_span_holds_goes_in_pieces()
    {
        // Three gigabytes that are described only: the remote device moves nothing, so no page is touched.
        const long Bytes = 3L << 30;
        var remote = new RemoteDevice(moves: false);
        Shape shape = [3 << 10, 1 << 20];
        using var host = new Tensor(Storage.Wrap(_device, 64, Bytes, owner: null), DType.U8, shape, Strides.Contiguous(shape));
        using Tensor there = host.To(remote);
        Assert.Equal(Bytes, there.ByteLength);
        Assert.Equal(Bytes, remote.Copies.Sum(length => (long)length));
        Assert.Equal([0, 1L << 30, 2L << 30], remote.Starts);
    }

    [Fact]
    public void Empty_tensors_and_scalars_are_ordinary()
    {
        using Tensor empty = Tensor.From(Array.Empty<float>(), [0, 3], _device);
        Assert.Equal(0, empty.ByteLength);
        Assert.Empty(empty.ToArray<float>());
        empty.CopyFrom<float>([]);
        empty.Clear();
        using Tensor clone = empty.Clone();
        Assert.Equal(0, clone.HostBytes().Length);
        using Tensor turned = empty.Transpose(0, 1);
        Assert.Empty(turned.ToArray<float>());

        using Tensor scalar = Tensor.From([2.5f], [], _device);
        Assert.Equal([2.5f], scalar.ToArray<float>());
        Assert.Equal("f32[] on cpu", scalar.ToString());
    }

    [Fact]
    public void A_disposed_tensor_refuses_everything_but_its_description()
    {
        Tensor tensor = Tensor.From([1f, 2], [2], _device);
        tensor.Dispose();
        tensor.Dispose();
        Assert.True(tensor.IsDisposed);
        Assert.Equal("f32[2] (disposed)", tensor.ToString());
        Assert.Throws<ObjectDisposedException>(() => tensor.Storage);
        Assert.Throws<ObjectDisposedException>(() => tensor.Device);
        Assert.Throws<ObjectDisposedException>(() => tensor.Pointer);
        Assert.Throws<ObjectDisposedException>(() => tensor.Span<float>());
        Assert.Throws<ObjectDisposedException>(() => tensor.HostBytes());
        Assert.Throws<ObjectDisposedException>(() => tensor.ToArray<float>());
        Assert.Throws<ObjectDisposedException>(() => tensor.CopyFrom<float>([1, 2]));
        Assert.Throws<ObjectDisposedException>(tensor.Clone);
        Assert.Throws<ObjectDisposedException>(tensor.Clear);
    }
}

internal static class TensorExtensions
{
    /// <summary>Makes a view of a view and lets go of the one between.</summary>
    public static Tensor Also(this Tensor tensor, Func<Tensor, Tensor> view)
    {
        using (tensor)
        {
            return view(tensor);
        }
    }
}

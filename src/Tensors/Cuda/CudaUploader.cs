using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>
/// Copies host memory to the device. Large sources (weights in a mapped file) are copied by several threads into pinned
/// buffers, one set of which is on its way to the device while the other is being filled.
/// </summary>
internal sealed unsafe class CudaUploader(CudaDevice device)
{
    private const int Piece = 4 << 20;
    private const int Pieces = 8;
    private const int Sets = 2;

    private readonly Lock _lock = new();
    private readonly PinnedMemory?[] _buffers = new PinnedMemory?[Sets];
    private readonly CudaEvent?[] _sent = new CudaEvent?[Sets];
    private int _next;

    /// <summary>Queues the copy; the source may change afterwards.</summary>
    public void Upload(ReadOnlySpan<byte> source, nint destination)
    {
        fixed (byte* from = source)
        {
            if (source.Length >= 2 * Piece)
            {
                Stage(from, source.Length, destination);
            }
            else if (source.Length > 0)
            {
                // The driver has taken the source over into a buffer of its own when this returns.
                Check(CudaDriver.cuMemcpyHtoDAsync_v2(destination, from, (nuint)source.Length, device.Stream.Handle));
            }
        }
    }

    private void Stage(byte* from, long length, nint destination)
    {
        lock (_lock)
        {
            for (long done = 0; done < length;)
            {
                int set = _next;
                _next = (_next + 1) % Sets;
                long count = Math.Min(Pieces * (long)Piece, length - done);
                PinnedMemory buffer = Ready(set);
                byte* begin = from + done;
                var to = (byte*)buffer.Pointer;
                Parallel.For(0, (int)((count + Piece - 1) / Piece), i =>
                {
                    long at = (long)i * Piece;
                    long bytes = Math.Min(Piece, count - at);
                    Buffer.MemoryCopy(begin + at, to + at, bytes, bytes);
                });
                Check(CudaDriver.cuMemcpyHtoDAsync_v2(destination + (nint)done, to, (nuint)count, device.Stream.Handle));
                _sent[set]!.Record(device.Stream);
                done += count;
            }
        }
    }

    private PinnedMemory Ready(int set)
    {
        if (_buffers[set] is { } buffer)
        {
            _sent[set]!.Synchronize();
            return buffer;
        }

        _sent[set] = new CudaEvent();
        return _buffers[set] = new PinnedMemory(Pieces * (long)Piece);
    }
}

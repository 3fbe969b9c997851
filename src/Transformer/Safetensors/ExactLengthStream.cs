namespace Engine.Transformer.Safetensors;

/// <summary>A write-only window onto a stream that takes exactly the announced number of bytes.</summary>
internal sealed class ExactLengthStream(Stream inner, string tensor, long length) : Stream
{
    private long _written;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => length;

    public override long Position
    {
        get => _written;
        set => throw new NotSupportedException();
    }

    public void CheckComplete()
    {
        if (_written != length)
        {
            throw new InvalidOperationException($"tensor {tensor} announced {length} bytes and wrote {_written}");
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (buffer.Length > length - _written)
        {
            throw new InvalidOperationException($"tensor {tensor} announced {length} bytes and writes at least {_written + buffer.Length}");
        }

        inner.Write(buffer);
        _written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
        // The file is flushed once, when it is complete.
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();
}

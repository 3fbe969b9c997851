using Engine.Tensors;

namespace Engine.Lora.Data;

/// <summary>
/// The lines of a stream as bytes, one at a time. Holds one buffer that grows to the longest line; never more than the
/// stream has shown to contain is asked for.
/// </summary>
internal sealed class LineReader(Stream stream, string path)
{
    private byte[] _buffer = new byte[(int)Math.Clamp(stream.CanSeek ? stream.Length + 1 : long.MaxValue, 16, 1 << 16)];
    private int _start;
    private int _end;
    private bool _finished;

    /// <summary>The number of the line last returned, from 1.</summary>
    public int Number { get; private set; }

    /// <summary>The next line that is not blank, without its end; valid until the next call.</summary>
    public bool TryNext(out ReadOnlyMemory<byte> line)
    {
        while (TryRaw(out line))
        {
            Number++;
            if (Number == 1 && line.Span.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]))
            {
                line = line[3..];
            }

            if (line.Span.ContainsAnyExcept(" \t\r"u8))
            {
                return true;
            }
        }

        return false;
    }

    private bool TryRaw(out ReadOnlyMemory<byte> line)
    {
        int scanned = _start;
        while (true)
        {
            int found = _buffer.AsSpan(scanned, _end - scanned).IndexOf((byte)'\n');
            if (found >= 0)
            {
                line = _buffer.AsMemory(_start, scanned + found - _start);
                _start = scanned + found + 1;
                return true;
            }

            if (_finished)
            {
                line = _buffer.AsMemory(_start, _end - _start);
                bool any = _end > _start;
                _start = _end;
                return any;
            }

            int pending = _end - _start;
            Fill();
            scanned = _start + pending;
        }
    }

    private void Fill()
    {
        if (_start > 0)
        {
            Buffer.BlockCopy(_buffer, _start, _buffer, 0, _end - _start);
            _end -= _start;
            _start = 0;
        }

        if (_end == _buffer.Length)
        {
            if (_buffer.Length >= Array.MaxLength / 2)
            {
                throw new EngineDataException($"{path}:{Number + 1}: the line is over {Array.MaxLength / 2} bytes");
            }

            Array.Resize(ref _buffer, 2 * _buffer.Length);
        }

        int read = stream.Read(_buffer, _end, _buffer.Length - _end);
        _end += read;
        _finished = read == 0;
    }
}

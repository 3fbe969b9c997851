using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// A fast 128-bit hash of a tensor's bits: dtype, shape and every element in order. Equal tensors have equal hashes on
/// every little-endian machine; for tensors that differ, equal hashes have a probability of about 2⁻⁶⁴ (the width of an
/// accumulator) unless somebody constructs them: it is not a cryptographic hash. It shows that an unmerged matrix is the
/// original one.
/// </summary>
/// <remarks>
/// The bytes are cut into chunks of 64 KiB, hashed independently (so the result does not depend on the thread count) and
/// the chunk hashes, 16 bytes each, are hashed together with dtype and shape in the same way. Within a chunk four 64-bit
/// accumulators take 16 bytes each in turn by the multiply-and-fold step of the wyhash family:
/// h ← fold((x₀ ⊕ c) · (x₁ ⊕ h)), the xor of the upper and the lower half of the 128-bit product, with different odd
/// constants c for each accumulator. The last, incomplete 64 bytes are padded with zeros, and the length enters at the end.
/// </remarks>
public static class TensorHash
{
    private const int Chunk = 1 << 16;

    // Odd constants with as many ones as zeros in their digits: the fractional parts of square roots of primes.
    private const ulong C0 = 0x6A09E667F3BCC909;
    private const ulong C1 = 0xBB67AE8584CAA73B;
    private const ulong C2 = 0x3C6EF372FE94F82B;
    private const ulong C3 = 0xA54FF53A5F1D36F1;

    /// <summary>The hash of a contiguous tensor, or of one of rank 2 with a gap between its rows (which does not enter).</summary>
    /// <exception cref="ArgumentException">The tensor's layout is another.</exception>
    public static UInt128 Compute(Tensor tensor) => Compute([tensor])[0];

    /// <summary>The hashes of tensors of one device; on a GPU by one launch and one wait.</summary>
    /// <exception cref="ArgumentException">A tensor's layout is another than <see cref="Compute(Tensor)"/> takes, or its device.</exception>
    public static UInt128[] Compute(params ReadOnlySpan<Tensor> tensors)
    {
        const string Op = "TensorHash.Compute";
        if (tensors.IsEmpty)
        {
            return [];
        }

        var bytes = new Bytes[tensors.Length];
        int chunks = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            Tensor tensor = tensors[i];
            ArgumentNullException.ThrowIfNull(tensor);
            if (tensor.Shape.Rank != 2 || tensor.Strides[1] != 1)
            {
                Check.Contiguous(Op, tensor);
            }

            Check.SameDevice(Op, tensor, tensors[0]);
            bytes[i] = Bytes.Of(tensor, chunks);
            chunks = checked(chunks + bytes[i].Chunks);
        }

        var hashes = new UInt128[chunks];
        switch (tensors[0].Device.Kind)
        {
            case DeviceKind.Cpu:
                foreach (Bytes one in bytes)
                {
                    CpuParallel.For(one.Chunks, (one, hashes), static (state, i) =>
                        state.hashes[state.one.FirstChunk + i] = HashChunk(state.one, (long)i * Chunk));
                }

                break;
            case DeviceKind.Cuda:
                TensorHashCuda.Chunks(tensors[0].Device, bytes, hashes);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, tensors[0].Device);
        }

        var result = new UInt128[bytes.Length];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = Together(tensors[i], hashes.AsSpan(bytes[i].FirstChunk, bytes[i].Chunks));
        }

        return result;
    }

    /// <summary>The hash as 32 hexadecimal digits.</summary>
    public static string ComputeText(Tensor tensor) => Text(Compute(tensor));

    /// <summary>A hash as 32 hexadecimal digits.</summary>
    public static string Text(UInt128 hash) => hash.ToString("x32");

    private static UInt128 Together(Tensor tensor, ReadOnlySpan<UInt128> chunks)
    {
        Span<int> header = stackalloc int[Shape.MaxRank + 2];
        header.Clear();
        header[0] = (int)tensor.DType;
        header[1] = tensor.Shape.Rank;
        for (int i = 0; i < tensor.Shape.Rank; i++)
        {
            header[i + 2] = tensor.Shape[i];
        }

        UInt128[] all = [.. chunks, Fold(MemoryMarshal.AsBytes(header), 0)];
        return Fold(MemoryMarshal.AsBytes(all.AsSpan()), (ulong)tensor.ByteLength);
    }

    private static unsafe UInt128 HashChunk(Bytes bytes, long begin)
    {
        int length = (int)Math.Min(Chunk, bytes.Length - begin);
        if (bytes.RowBytes == bytes.RowStride)
        {
            return Fold(new ReadOnlySpan<byte>((void*)(bytes.Pointer + (nint)begin), length), 0);
        }

        using ScratchBuffer<byte> buffer = Scratch.Rent<byte>(Chunk);
        int done = 0;
        while (done < length)
        {
            (long row, long column) = Math.DivRem(begin + done, bytes.RowBytes);
            int count = (int)Math.Min(length - done, bytes.RowBytes - column);
            new ReadOnlySpan<byte>((void*)(bytes.Pointer + (nint)((row * bytes.RowStride) + column)), count)
                .CopyTo(new Span<byte>(buffer.Pointer + done, count));
            done += count;
        }

        return Fold(new ReadOnlySpan<byte>(buffer.Pointer, length), 0);
    }

    private static UInt128 Fold(ReadOnlySpan<byte> bytes, ulong seed)
    {
        ulong length = (ulong)bytes.Length;

        // Different from the constant of the same accumulator: else the first two words could be exchanged.
        ulong h0 = C1 ^ seed, h1 = C2, h2 = C3, h3 = C0;
        for (; bytes.Length >= 64; bytes = bytes[64..])
        {
            Step(bytes, ref h0, ref h1, ref h2, ref h3);
        }

        if (!bytes.IsEmpty)
        {
            Span<byte> rest = stackalloc byte[64];
            rest.Clear();
            bytes.CopyTo(rest);
            Step(rest, ref h0, ref h1, ref h2, ref h3);
        }

        ulong low = Mix(Mix(h0 ^ C1, h1 ^ length), Mix(h2 ^ C3, h3) ^ C2);
        ulong high = Mix(Mix(h2 ^ C0, h0 ^ length), Mix(h3 ^ C2, h1) ^ C3);
        return new UInt128(high, low);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Step(ReadOnlySpan<byte> block, ref ulong h0, ref ulong h1, ref ulong h2, ref ulong h3)
    {
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(block[..64]);
        h0 = Mix(words[0] ^ C0, words[1] ^ h0);
        h1 = Mix(words[2] ^ C1, words[3] ^ h1);
        h2 = Mix(words[4] ^ C2, words[5] ^ h2);
        h3 = Mix(words[6] ^ C3, words[7] ^ h3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong a, ulong b)
    {
        ulong high = Math.BigMul(a, b, out ulong low);
        return high ^ low;
    }

    /// <summary>
    /// Rows of bytes, taken as one sequence of <paramref name="Length"/> bytes, whose chunks are numbered from
    /// <paramref name="FirstChunk"/> on.
    /// </summary>
    internal readonly record struct Bytes(nint Pointer, long Length, long RowBytes, long RowStride, int FirstChunk)
    {
        public int Chunks => CpuParallel.ChunkCount(Length, Chunk);

        /// <summary>A matrix with gaps is hashed as if its rows were next to each other.</summary>
        public static Bytes Of(Tensor tensor, int firstChunk)
        {
            bool gaps = !tensor.IsContiguous;
            return new Bytes(
                tensor.Pointer,
                tensor.ByteLength,
                gaps ? (long)tensor.Shape[1] * tensor.DType.Size() : tensor.ByteLength,
                gaps ? tensor.Strides[0] * tensor.DType.Size() : tensor.ByteLength,
                firstChunk);
        }
    }
}

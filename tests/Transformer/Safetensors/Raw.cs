using System.Buffers.Binary;
using System.Text;

namespace Engine.Transformer.Tests.Safetensors;

/// <summary>Safetensors bytes put together by hand, valid or not.</summary>
internal static class Raw
{
    public static byte[] File(string header, int dataLength, ulong? headerLength = null)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        byte[] bytes = new byte[8 + json.Length + dataLength];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, headerLength ?? (ulong)json.Length);
        json.CopyTo(bytes, 8);
        for (int i = 0; i < dataLength; i++)
        {
            bytes[8 + json.Length + i] = (byte)(i * 37 + 11);
        }

        return bytes;
    }
}

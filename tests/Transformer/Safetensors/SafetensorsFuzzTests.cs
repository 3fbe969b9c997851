using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Safetensors;

[Trait("Device", "Cpu")]
public class SafetensorsFuzzTests
{
    // Every number is checked before memory is taken for it, so the cost is in what the header spells out. Its dearest
    // form is the metadata entry "aa":"b", of 9 bytes: two strings (32 each) and a slot in a dictionary that doubles as
    // it grows (28 bytes, twice for slack, twice for the copies left behind): 176 bytes, 20 for each. A shape takes 4
    // for each byte, a tensor of 50 bytes about 270.
    private const int BytesPerByte = 22;

    // The reader's objects, and one exception around another with their messages and stack traces.
    private const int Constant = 16 << 10;

    [Theory]
    [InlineData("__metadata__")]
    [InlineData("shape")]
    [InlineData("tensors")]
    public void The_dearest_headers_keep_the_bound(string kind)
    {
        byte[] bytes = kind switch
        {
            "__metadata__" => Raw.File($"{{\"__metadata__\":{{{Join(i => $"\"{i:x}\":\"b\"")}}}}}", 0),
            "shape" => Raw.File($"{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{Join(_ => "1")}],\"data_offsets\":[0,1]}}}}", 1),
            _ => Raw.File($"{{{Join(i => $"\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[{i},{i + 1}]}}")}}}", 20_000),
        };
        Read(bytes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Read(bytes);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, ((long)BytesPerByte * bytes.Length) + Constant);

        static string Join(Func<int, string> piece) => string.Join(',', Enumerable.Range(0, 20_000).Select(piece));
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}""")]
    [InlineData("""{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}""")]
    public void A_large_claim_costs_nothing(string header)
    {
        byte[] bytes = Raw.File(header, 8);
        Assert.Throws<EngineDataException>(() => Read(bytes));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<EngineDataException>(() => Read(bytes));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, Constant);
    }

    [Fact]
    public void A_hundred_thousand_damaged_files_only_give_the_documented_exception()
    {
        byte[][] valid =
        [
            Raw.File("{}", 0),
            Raw.File("""{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}""", 32),
            Raw.File("""{"__metadata__":{"format":"pt","é":"x"},"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"e":{"dtype":"U8","shape":[0,5],"data_offsets":[8,8]}}     """, 8),
            Raw.File("""{"m":{"dtype":"BOOL","shape":[1,1,2,2],"data_offsets":[4,8]},"n\u00e9":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}""", 8),
            Raw.File("""{"w":{"dtype":"U8","shape":[SHAPE],"data_offsets":[0,1]}}""".Replace("SHAPE", string.Join(',', Enumerable.Repeat(1, 60)), StringComparison.Ordinal), 1),
        ];
        Assert.All(valid, Read);

        int accepted = new Fuzzer(20240611, valid).Run(100_000, Read, BytesPerByte, Constant);

        // Neither everything nor nothing got through, so both ways were walked.
        Assert.InRange(accepted, 1_000, 50_000);
    }

    // Accepted files must also be readable to their last byte.
    private static void Read(byte[] bytes)
    {
        using SafetensorsFile file = SafetensorsFile.Parse(bytes);
        long total = 0;
        foreach (SafetensorsTensor tensor in file.Tensors.Values)
        {
            if (tensor.IsSupported && tensor.ElementCount * tensor.DType.Size() != tensor.Data.Length)
            {
                throw new InvalidOperationException("an accepted tensor's size does not fit its shape");
            }

            total += tensor.Data.Length;
            _ = tensor.Data.IsEmpty ? 0 : tensor.Data[0] + tensor.Data[^1];
        }

        if (8 + BitConverter.ToInt64(bytes) + total != bytes.Length)
        {
            throw new InvalidOperationException("an accepted file's tensors do not cover it");
        }
    }
}

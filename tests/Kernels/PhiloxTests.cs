namespace Engine.Kernels.Tests;

[Trait("Device", "Cpu")]
public class PhiloxTests
{
    // Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors): all zero, all ones, digits of pi.
    [Theory]
    [InlineData(0ul, 0ul, 0ul, 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u)]
    [InlineData(ulong.MaxValue, ulong.MaxValue, ulong.MaxValue, 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu)]
    [InlineData(0x299f31d0a4093822ul, 0x0370734413198a2eul, 0x85a308d3243f6a88ul, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u)]
    public void Agrees_with_the_published_answers(ulong seed, ulong stream, ulong block, uint x, uint y, uint z, uint w) =>
        Assert.Equal((x, y, z, w), Philox.Block(seed, stream, block));
}

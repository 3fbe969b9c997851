namespace Engine.Kernels;

/// <summary>Blocks and shared memory of the kernels, for instances of head dimension d: kernels-cu/attention/tuning.cuh has the same numbers.</summary>
internal static partial class AttentionCuda
{
    // Threads of a block of the tensor-core kernels.
    private const uint Threads = 128;

    // Queries of a block, and keys of its tiles.
    private static int ForwardRows(int d) => d <= 128 ? 128 : 64;

    private static int ForwardKeys(int d) => d <= 64 ? 64 : 32;

    private static int BackwardQueriesRows(int d) => d <= 96 ? 128 : 64;

    // Keys of a block.
    private static int BackwardKeysRows(int d) => d <= 64 ? 128 : d <= 128 ? 64 : 32;

    // Rows of the tiles that pass by in the backward: queries for the keys and keys for the queries.
    private static int BackwardTile(int d) => d <= 64 ? 64 : d <= 128 ? 32 : 16;

    // Two stages of a K and a V tile; queries that do not stay in registers have a tile too.
    private static uint ForwardShared(int d) => TileBytes((4 * ForwardKeys(d)) + (d <= 64 ? 0 : ForwardRows(d)), d);

    // K and V; two stages of a tile of q, one of dO and three numbers a query.
    private static uint BackwardKeysShared(int d) =>
        TileBytes((2 * BackwardKeysRows(d)) + (4 * BackwardTile(d)), d) + (uint)(2 * 3 * sizeof(float) * BackwardTile(d));

    // q and dO; two stages of a K and a V tile.
    private static uint BackwardQueriesShared(int d) => TileBytes((2 * BackwardQueriesRows(d)) + (4 * BackwardTile(d)), d);

    // Rows of D + 8 elements of 16 bits.
    private static uint TileBytes(int rows, int d) => (uint)(rows * (d + 8) * 2);

    // The f32 kernels: rows of D + 4 floats.
    private static uint FullForwardShared(int d, int rows) => (uint)(sizeof(float) * rows * ((2 * (d + 4)) + rows + 4));

    private static uint FullBackwardShared(int d, int rows, int scores) =>
        (uint)(sizeof(float) * rows * ((4 * (d + 4)) + (scores * (rows + 4))));
}

// What is tuned for head dimensions up to D; src/Kernels/Attention/AttentionCuda.Tiles.cs has the same tiles.
#pragma once

template <int D> struct ForwardTiles {
    static constexpr int M = D <= 128 ? 2 : 1;      // tiles of 16 queries a warp has: 64·M queries a block
    static constexpr int Keys = D <= 64 ? 64 : 32;  // keys of a tile
    static constexpr bool InRegisters = D <= 64;    // whether a warp's queries stay in registers
};

template <int D> struct BackwardQueriesTiles {
    static constexpr int M = D <= 96 ? 2 : 1;                       // tiles of 16 queries a warp has: 64·M queries a block
    static constexpr int Keys = D <= 64 ? 64 : D <= 128 ? 32 : 16;  // keys of a tile
    static constexpr bool InRegisters = D <= 64 || D == 128;        // whether a warp's q and dO stay in registers
};

template <int D> struct BackwardKeysTiles {
    static constexpr int M = D <= 64 ? 2 : 1;                          // tiles of 16 keys a warp has
    static constexpr int Warps = D <= 128 ? 4 : 2;                     // 16·Warps·M keys a block
    static constexpr int Queries = D <= 64 ? 64 : D <= 128 ? 32 : 16;  // queries of a tile
    static constexpr bool ValuesInRegisters = D == 96 || D == 128;     // whether a warp's v stays in registers
};

// Columns of scores that the backward has in registers at a time.
constexpr int BackwardPart = 32;

// Fragments of a second operand that are loaded ahead of their products.
constexpr int FragmentsAhead = 2;

// The maximum that exponents are taken from is raised when they would exceed 0 by more than this, in units of log 2.
constexpr float MaximumLag = 8;

// Blocks of a multiprocessor that the compiler leaves registers for: the most that costs no spilled register (65,536
// registers, blocks of 128 threads: 4, 3 and 2 blocks leave 128, 168 and 255).
constexpr int forward_blocks(int d) { return d <= 128 ? 2 : 1; }
constexpr int backward_queries_blocks(int d) { return d <= 128 ? 2 : 1; }
constexpr int backward_keys_blocks(int d) { return d <= 128 ? 2 : 1; }

// The same for Hopper's warpgroup products. Small blocks, of which several share a multiprocessor, hide each other's waits.
constexpr int WgmmaRows = 64;  // rows of a warpgroup, which is a block, and of the tiles that pass by
constexpr int wgmma_forward_blocks(int d) { return d <= 64 ? 4 : 3; }
constexpr int wgmma_queries_blocks(int d) { return d <= 64 ? 4 : 1; }
constexpr int WgmmaKeysBlocks = 2;
// Tiles of q and dO that the pass over the keys has room for.
template <int D> constexpr int WgmmaStages = D <= 64 ? 3 : 2;

// Blocks of a multiprocessor that the compiler leaves registers for, by head dimension: the most that costs no spilled
// register (65,536 registers, blocks of 128 threads: 4, 3 and 2 blocks leave 128, 168 and 255).
#pragma once

constexpr int forward_blocks(int d) { return d <= 32 ? 4 : d <= 96 ? 3 : d <= 128 ? 2 : 1; }
constexpr int backward_keys_blocks(int d) { return d <= 64 ? 3 : d <= 128 ? 2 : 1; }
constexpr int backward_queries_blocks(int d) { return d <= 64 ? 3 : d <= 128 ? 3 : 1; }

// Blocks of a multiprocessor that the compiler leaves registers for, by head dimension: the most that costs no spilled
// register (65,536 registers, blocks of 128 threads: 4, 3 and 2 blocks leave 128, 168 and 255).
#pragma once

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int ForwardThree = 64;  // the largest D with three blocks: sm_80 spills at 96
#else
constexpr int ForwardThree = 96;
#endif
constexpr int forward_blocks(int d) { return d <= 32 ? 4 : d <= ForwardThree ? 3 : d <= 128 ? 2 : 1; }
constexpr int backward_keys_blocks(int d) { return d <= 64 ? 3 : d <= 128 ? 2 : 1; }
constexpr int backward_queries_blocks(int d) { return d <= 64 ? 3 : d <= 128 ? 3 : 1; }

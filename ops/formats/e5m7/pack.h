// Matrices of float16 weights in 13 bits each, without loss: E5M7, a sign, 5 bits of exponent and 7 of mantissa.
//
// Weights that were bfloat16 have 8 significant bits; as float16 they are packed exactly if their magnitude is below
// 64. What is stored is the upper 13 bits of the weight times 1024 as float16, which makes the subnormal ones normal.
//
// A row's columns come in granules of 128, 208 bytes each; four quads (what lanes 4n to 4n + 3 of a warp need for a
// tensor-core product of 16 columns) have 13 words of it. Pair n of quad q, 0 <= n < 16, is the columns 8 n + 2 q and
// 8 n + 2 q + 1, the first one in the lower half. Words 0 to 12 hold pairs 0 to 12 in the upper 13 bits of each half.
// Pair 13 + e stands in the lower three bits of the halves: its bits 15 to 13 in word 4 e, 12 to 10 in word 4 e + 1,
// 9 to 7 in word 4 e + 2, 6 to 4 in word 4 e + 3, and its bit 3 as bit e of word 12.
// In a granule three planes, each of four words (4 p to 4 p + 3) from quad 0, then quad 1, 2 and 3, stand side by side;
// the tail (word 12 of all quads) stands before them in even rows and behind them in odd ones.
//
// The granules of eight rows (a multiple of eight and the seven after it) and the same columns stand together: 1664
// bytes, whole lines of memory. They follow on each other by columns, then by rows.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// 1 if the current device runs all kernels of this build that read the format, else 0: prefill's are for sm_90a alone.
int qwen_vl_e5m7_readable();

// from [rows, columns] float16, rows a multiple of 8 and columns of 128 -> to; both in device memory, 16-byte aligned.
// Adds the number of weights that cannot be packed to *failed.
int qwen_vl_e5m7_pack(const void* from, void* to, long long rows, long long columns, int* failed, cudaStream_t stream);

// The inverse: to [rows, columns] float16.
int qwen_vl_e5m7_unpack(const void* from, void* to, long long rows, long long columns, cudaStream_t stream);
}

// The card's own ceiling for decode: how fast device memory can be read.
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>

extern "C" {

// Ways to read: threads load 16 bytes each, or (compute capability 9.0 and CUDA 12.0 on) blocks fill a ring by bulk
// copies.
enum { QWEN_VL_READ_LOADS = 0, QWEN_VL_READ_BULK = 1 };

// Enqueue one pass of reading over `bytes` (at least 1 MiB) of device memory at `buffer`, 16-byte aligned. What does
// not fill the last round of all blocks is skipped. Returns the bytes that are read, or 0 where the card, the build or
// the arguments do not allow it.
//   piece: with loads, the 16-byte loads a thread has in flight (4, 8 or 16); with bulk copies, the bytes of one copy
//   (a power of two, 1024 to 32768).
//   sink: one device int, written only if the memory holds a certain pattern (so that no load can be dropped).
size_t qwen_vl_read_rate(const void* buffer, size_t bytes, int way, int piece, int* sink, cudaStream_t stream);
}

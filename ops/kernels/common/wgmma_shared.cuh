// Warpgroup matrix instructions of sm_90a with both operands in 128-byte swizzled shared memory: 64 x N x 16.
#pragma once

#include "ops/kernels/common/wgmma.cuh"

#if QWEN_VL_HAS_WGMMA
namespace qwen {

#define QWEN_VL_WGMMA_SHARED_144(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %74, 0; " \
               "wgmma.mma_async.sync.aligned.m64n144k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_72 \
               "}, %72, %73, p, 1, 1, 0, 0; }" : QWEN_VL_D64(0), QWEN_VL_D4(16), QWEN_VL_D4(17) \
               : "l"(a), "l"(b), "r"(accumulate))

#define QWEN_VL_WGMMA_SHARED_256(TYPE) \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %130, 0; " \
               "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {" QWEN_VL_FIRST_128 \
               "}, %128, %129, p, 1, 1, 0, 0; }" : QWEN_VL_D64(0), QWEN_VL_D64(16) : "l"(a), "l"(b), "r"(accumulate))

// d (+)= a @ b^T; a has 64 rows, b N, both of 16 columns. d[n] holds columns 8n .. 8n + 7 as a warp's m16n8
// accumulator does; `accumulate` 0 overwrites d.
template <typename T, int N>
__device__ __forceinline__ void wgmma_shared(float (&d)[N / 8][4], uint64_t a, uint64_t b, int accumulate) {
  constexpr bool kHalf = std::is_same<T, __half>::value;
  static_assert(N == 144 || N == 256, "width without an instruction here");
  if constexpr (N == 144 && kHalf) QWEN_VL_WGMMA_SHARED_144("f16");
  else if constexpr (N == 144) QWEN_VL_WGMMA_SHARED_144("bf16");
  else if constexpr (N == 256 && kHalf) QWEN_VL_WGMMA_SHARED_256("f16");
  else if constexpr (N == 256) QWEN_VL_WGMMA_SHARED_256("bf16");
}

}  // namespace qwen
#endif

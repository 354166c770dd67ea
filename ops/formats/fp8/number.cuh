// Numbers of 8 bits (e4m3) as float16, which holds them all.
#pragma once

#include "ops/formats/row_scaled.cuh"

namespace qwen {

struct Fp8Number {
  static constexpr bool kFinite = false;

  __host__ __device__ __forceinline__ static uint32_t pair(uint32_t word, bool second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint32_t made;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(made) : "h"(static_cast<uint16_t>(second ? word >> 16 : word)));
    return made;
#else
    // The bits as the upper ones of float16, whose exponent is one bit wider: 256 times too little.
    const uint32_t raised = choose_bytes(word, 0, second ? 0x3424 : 0x1404);
    const uint32_t small = (raised & 0x80008000u) | (raised >> 1 & 0x3f803f80u);
    return pair_bits(__hmul2(half_pair(small), half_pair(0x5c005c00u)));
#endif
  }
};

}  // namespace qwen

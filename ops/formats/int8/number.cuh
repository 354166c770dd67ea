// Whole numbers of 8 bits, 128 added, as float16.
#pragma once

#include "ops/formats/row_scaled.cuh"

namespace qwen {

struct Int8Number {
  static constexpr bool kFinite = true;

  // A byte in the mantissa of 1024 is 1024 more than itself.
  __host__ __device__ __forceinline__ static uint32_t pair(uint32_t word, bool second) {
    const uint32_t raised = choose_bytes(word, 0x64646464u, second ? 0x4342 : 0x4140);
    return pair_bits(__hsub2(half_pair(raised), half_pair(0x64806480u)));  // 1152
  }
};

}  // namespace qwen

// How the CUDA kernels take whole numbers of 4 bits (groups.h).
#pragma once

#include "ops/formats/int4/groups.h"
#include "ops/formats/lanes.cuh"

namespace qwen {

// (a & mask) | more as one instruction, which the compiler makes two of, as only one operand can be a constant.
__host__ __device__ __forceinline__ uint32_t select_or(uint32_t a, uint32_t mask, uint32_t more) {
#ifdef __CUDA_ARCH__
  uint32_t made;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(made) : "r"(a), "r"(mask), "r"(more));
  return made;
#else
  return (a & mask) | more;
#endif
}

// Four bits in the mantissa of 1024 are 1024 more than themselves, four bits further up 1024 more than 16 times
// themselves; what is subtracted then takes the zero point with it, without rounding.
struct NibbleZero {
  __half2 low, high;

  __host__ __device__ __forceinline__ static NibbleZero none() {
    return {half_pair(0x64086408u), half_pair(0xd480d480u)};  // 1032, -72
  }
  __host__ __device__ __forceinline__ static NibbleZero of(__half2 zero) {
    return {__hadd2(half_pair(0x64006400u), zero), __hsub2(half_pair(0xd400d400u), zero)};  // 1024 + z, -64 - z
  }
  // Number i of each half of a word, less the zero point.
  __host__ __device__ __forceinline__ uint32_t pair(uint32_t word, int i) const {
    const uint32_t bits = i < 2 ? word : word >> 8;
    const __half2 raised = half_pair(select_or(bits, i % 2 ? 0x00f000f0u : 0x000f000fu, 0x64006400u));
    if (i % 2 == 0) return pair_bits(__hsub2(raised, low));
    const __half2 sixteenth = half_pair(0x2c002c00u);
#ifdef __CUDA_ARCH__
    return pair_bits(__hfma2(raised, sixteenth, high));
#else
    return pair_bits(__hadd2(__hmul2(raised, sixteenth), high));
#endif
  }
};

template <int GROUP, bool ZEROS> struct Int4Share {
  using Places = Int4Places<GROUP, ZEROS>;
  static constexpr int kColumns = kLaneColumns, kRowBytes = Places::kTileBytes / kLaneRows, kRows = kLaneRows;
  static constexpr int kGroup = GROUP, kGroups = Places::kGroups;
  static constexpr float kUnscale = 1;
  static constexpr bool kRowScales = false, kFinite = true;

  struct Place {
    int numbers, beside;  // from where the row would begin if it stood in one piece
    __device__ Place(int row, int quad)
        : numbers(row % kLaneRows * (64 - kRowBytes) + quad * 16),
          beside(kNibbleBytes + row % kLaneRows * (Places::kBesideRow - kRowBytes)) {}
  };

  uint32_t words[4];
  uint32_t groups[kGroups];  // a scale, and behind it a zero point or nothing

  __device__ __forceinline__ void load(const char* row, Place place) {
    const uint4 all = *reinterpret_cast<const uint4*>(row + place.numbers);
    words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    const char* beside = row + place.beside;
    if constexpr (!ZEROS) {
#pragma unroll
      for (int i = 0; i < kGroups; ++i) groups[i] = reinterpret_cast<const uint16_t*>(beside)[i];
    } else if constexpr (kGroups == 1) {
      groups[0] = *reinterpret_cast<const uint32_t*>(beside);
    } else if constexpr (kGroups == 2) {
      const uint2 two = *reinterpret_cast<const uint2*>(beside);
      groups[0] = two.x, groups[1] = two.y;
    } else {
      const uint4 four = *reinterpret_cast<const uint4*>(beside);
      groups[0] = four.x, groups[1] = four.y, groups[2] = four.z, groups[3] = four.w;
    }
  }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = 0;
    clear_missing();
  }
  __device__ void clear_missing() {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) groups[i] = 0;
  }

  __device__ __forceinline__ uint32_t group_of(int n) const { return groups[n * 8 / GROUP]; }
  __device__ __forceinline__ uint32_t number_pair(int n) const {
    const NibbleZero zero =
        ZEROS ? NibbleZero::of(half_pair(choose_bytes(group_of(n), 0, 0x3232))) : NibbleZero::none();
    return zero.pair(words[n / 4], n % 4);
  }
  __device__ __forceinline__ uint32_t pair(int n) const {
    return pair_bits(__hmul2(half_pair(number_pair(n)), half_pair(choose_bytes(group_of(n), 0, 0x1010))));
  }
  __device__ float scale(int column) const { return __low2float(half_pair(groups[column / GROUP])); }
};

}  // namespace qwen

// How the CUDA kernels take formats of one byte a weight (row_scaled.h). NUMBER: pair(word, second) makes two float16
// numbers of the first or second two bytes of a word.
#pragma once

#include "ops/formats/lanes.cuh"
#include "ops/formats/row_scaled.h"

namespace qwen {

template <class NUMBER> struct ByteShare {
  static constexpr int kColumns = kLaneColumns, kRowBytes = kLaneColumns, kRows = kLaneRows, kGroup = 0;
  static constexpr float kUnscale = 1;
  static constexpr bool kRowScales = true, kFinite = NUMBER::kFinite;

  struct Place {
    int offset;  // from where the row would begin if it stood in one piece
    __device__ Place(int row, int quad) : offset(quad * 16 - row % kLaneRows * 64) {}
  };

  uint32_t words[8];

  __device__ __forceinline__ void load(const char* row, Place place) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const uint4 half = *reinterpret_cast<const uint4*>(row + place.offset + p * 512);
      words[4 * p] = half.x, words[4 * p + 1] = half.y, words[4 * p + 2] = half.z, words[4 * p + 3] = half.w;
    }
  }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i) words[i] = 0;
  }
  __device__ void clear_missing() {
    if (!kFinite) clear();
  }
  __device__ __forceinline__ uint32_t number_pair(int n) const { return NUMBER::pair(words[n / 2], n % 2); }
  __device__ __forceinline__ uint32_t pair(int n) const { return number_pair(n); }
  __device__ static float scale(int) { return 1; }
};

}  // namespace qwen

// Reading matrices in E5M7 (pack.h).
#pragma once

#include <stdint.h>

namespace qwen {

constexpr int kE5m7Columns = 128;                       // of one granule
constexpr int kE5m7Bytes = kE5m7Columns * 13 / 8;       // of one granule
constexpr int kE5m7Rows = 8, kE5m7TileBytes = kE5m7Rows * kE5m7Bytes;  // whose granules stand together
constexpr int kE5m7Words = 13, kE5m7Pairs = 16;         // of one lane's share, packed and unpacked
static_assert(kE5m7TileBytes % 128 == 0, "whole lines of memory, which copies need to be fast");
constexpr float kE5m7Scale = 1024, kE5m7Unscale = 1 / kE5m7Scale;

// Bytes from a matrix's begin to a granule, one of `granules` in its row.
__host__ __device__ inline long long e5m7_granule_at(long long row, int granule, int granules) {
  return (row / kE5m7Rows * granules + granule) * kE5m7TileBytes + row % kE5m7Rows * kE5m7Bytes;
}

// Where a lane finds its share of a granule. The tail stands first in even rows and last in odd ones: eight lanes of
// two neighbouring rows then read 16 bytes each from different banks of shared memory.
__host__ __device__ inline int e5m7_planes_at(int row, int quad) { return (row & 1 ? 0 : 16) + quad * 16; }
__host__ __device__ inline int e5m7_tail_at(int row, int quad) { return (row & 1 ? 192 : 0) + quad * 4; }

// Whose products of many rows take a lane's share of a row's granule: see products/tile.cuh, Packing.
struct E5m7Share {
  static constexpr int kColumns = kE5m7Columns, kRowBytes = kE5m7Bytes, kRows = kE5m7Rows;
  static constexpr float kUnscale = kE5m7Unscale;
  static constexpr bool kRowScales = false;

  struct Place {
    int planes, tail;
    __device__ Place(int row, int quad) : planes(e5m7_planes_at(row, quad)), tail(e5m7_tail_at(row, quad)) {}
  };

  uint32_t words[kE5m7Words];

  // From a granule's planes and tail, each with this lane's offset.
  __device__ __forceinline__ void load(const char* planes, const char* tail) {
#pragma unroll
    for (int p = 0; p < 3; ++p) {
      const uint4 plane = *reinterpret_cast<const uint4*>(planes + p * 64);
      words[4 * p] = plane.x, words[4 * p + 1] = plane.y, words[4 * p + 2] = plane.z, words[4 * p + 3] = plane.w;
    }
    words[12] = *reinterpret_cast<const uint32_t*>(tail);
  }
  __device__ __forceinline__ void load(const char* granule, Place place) {
    load(granule + place.planes, granule + place.tail);
  }

  // Pair n as two float16 numbers, kE5m7Scale times the weights; n is known at compile time.
  __host__ __device__ __forceinline__ uint32_t pair(int n) const {
    if (n < kE5m7Words) return words[n] & 0xfff8fff8u;
    const int extra = n - kE5m7Words;
    const uint32_t* from = words + 4 * extra;
    return (from[0] << 13 & 0xe000e000u) | (from[1] << 10 & 0x1c001c00u) | (from[2] << 7 & 0x03800380u) |
           (from[3] << 4 & 0x00700070u) | ((extra < 3 ? words[12] >> extra << 3 : 0) & 0x00080008u);
  }
};

}  // namespace qwen

// What a lane of the decode kernel holds of a row in E5M7, and how it becomes operands (decode/weights.cuh).
#pragma once

#include "ops/formats/e5m7/bits.cuh"
#include "ops/kernels/common/mma.cuh"
#include "ops/kernels/decode/weights.cuh"

namespace qwen {

// A warp's columns are one granule.
struct E5m7DecodeShare : NaturalOrder {
  static constexpr float kUnscale = kE5m7Unscale;
  static constexpr int kRowBytes = kE5m7Bytes;
  static_assert(kWarpColumns == kE5m7Columns, "a warp takes one granule of a chunk");
  E5m7Share share;

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kE5m7Words; ++i) share.words[i] = 0;
  }

  __device__ void take(const char* from, int warp, int lane, int count) {
    if (warp * kWarpColumns >= count) return clear();
    const int row = lane / 4;
    const char* granule = from + warp * kE5m7TileBytes;
    share.load(granule + e5m7_planes_at(row, lane % 4), granule + e5m7_tail_at(row, lane % 4));
  }

  __device__ uint4 step(int s) const {
    return make_uint4(share.pair(4 * s), share.pair(4 * s + 1), share.pair(4 * s + 2), share.pair(4 * s + 3));
  }
};

}  // namespace qwen

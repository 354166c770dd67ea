// What a lane holds of one row of a stage: for each kChunk columns kSteps steps of 32 columns, 8 columns each. The
// formats of weights differ in where these columns lie, in memory and among the lanes; step(s) is four registers of two
// tensor-core products.
#pragma once

#include "ops/kernels/common/copies.cuh"
#include "ops/kernels/common/mma.cuh"
#include "ops/kernels/decode/params.cuh"

namespace qwen {

// What most formats have in common.
struct PlainShare {
  static constexpr int kPieces = 1;  // times kChunk columns in a stage
  static constexpr bool kRowScales = false;  // whether sums are multiplied by a scale of the row (row_scale)
  static constexpr int kGroupSteps = 0;  // steps whose sums are multiplied by scale(step); 0: none
  static constexpr bool kFinite = false;  // whether any bits are finite numbers: what is not there needs no zeros
};

// Columns in their natural order.
struct NaturalOrder : PlainShare {
  // The activations that belong to step(s) of a chunk, of rows `stride` bytes apart in shared memory.
  __device__ static uint4 activations(const char* from, int stride, int rows, int warp, int lane, int s, int count) {
    const int column = warp * kWarpColumns + s * 32 + lane / 8 * 8;
    if (warp * kWarpColumns >= count) return make_uint4(0, 0, 0, 0);
    uint32_t r[4];
    load_matrix_x4(r, shared_address(from + min(lane % 8, rows - 1) * stride + column * 2));
    return make_uint4(r[0], r[1], r[2], r[3]);
  }
};

// Float16 or bfloat16. The order of columns inside a product is free as long as both sides share it: a lane's eight
// neighbouring columns stand where the instruction expects 2 + 2 columns of two products.
struct HalfShare : PlainShare {
  static constexpr float kUnscale = 1;
  static constexpr int kRowBytes = kChunk * 2;  // from one row of a stage to the next
  uint4 steps[kSteps];

  __device__ void clear() {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) steps[s] = make_uint4(0, 0, 0, 0);
  }

  // From a stage: this lane's row, number lane / 4, begins at `from`; `count` columns are there.
  __device__ void take(const char* from, int warp, int lane, int count) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int column = warp * kWarpColumns + s * 32 + lane % 4 * 8;
      steps[s] = column < count ? *reinterpret_cast<const uint4*>(from + column * 2) : make_uint4(0, 0, 0, 0);
    }
  }

  __device__ uint4 step(int s) const { return steps[s]; }

  __device__ static uint4 activations(const char* from, int stride, int rows, int warp, int lane, int s, int count) {
    const int column = warp * kWarpColumns + s * 32 + lane % 4 * 8;
    const char* row = from + min(lane / 4, rows - 1) * stride;
    return column < count ? *reinterpret_cast<const uint4*>(row + column * 2) : make_uint4(0, 0, 0, 0);
  }
};

}  // namespace qwen

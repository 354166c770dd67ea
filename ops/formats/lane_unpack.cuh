// Unpacks matrices that are laid out by lanes to float16, for products that no tile takes: a kernel.
#pragma once

#include "ops/formats/lanes.cuh"
#include "ops/formats/row_scaled.h"
#include "ops/kernels/common/status.h"

namespace qwen {

constexpr int kUnpackThreads = 256, kQuads = 4;

// A thread for each row and quad of a tile.
template <class Packing>
__global__ void __launch_bounds__(kUnpackThreads)
    lane_unpack_kernel(const char* __restrict__ from, __half2* to, long long quads, int columns, long long row_bytes) {
  const long long i = static_cast<long long>(blockIdx.x) * kUnpackThreads + threadIdx.x;
  if (i >= quads) return;
  const int quad = i % kQuads, tiles = columns / kLaneColumns, tile = i / kQuads % tiles;
  const long long row = i / kQuads / tiles;
  const int r = row % kLaneRows;
  Packing share;
  share.load(from + (row - r) * row_bytes + (tile * kLaneRows + r) * Packing::kRowBytes, {r, quad});
  float of_row = 1;
  if constexpr (Packing::kRowScales) of_row = *row_scale(from, row, columns);
  __half2* values = to + (row * columns + tile * kLaneColumns) / 2 + quad;
#pragma unroll
  for (int n = 0; n < kLanePairs; ++n) {
    const float2 numbers = __half22float2(half_pair(share.number_pair(n)));
    const float scale = of_row * share.scale(8 * n);
    values[4 * n] = __floats2half2_rn(numbers.x * scale, numbers.y * scale);
  }
}

// As the `unpack` of ops/formats/format.h.
template <class Packing>
int lane_unpack(const void* from, void* to, long long rows, long long columns, long long row_bytes,
                cudaStream_t stream) {
  if (rows < 0 || rows % kLaneRows || columns <= 0 || columns % kLaneColumns || rows * columns / 32 > 1ll << 38)
    return QWEN_VL_UNSUPPORTED;
  const long long quads = rows * (columns / kLaneColumns) * kQuads;
  if (quads == 0) return QWEN_VL_OK;
  const unsigned blocks = static_cast<unsigned>((quads + kUnpackThreads - 1) / kUnpackThreads);
  lane_unpack_kernel<Packing><<<blocks, kUnpackThreads, 0, stream>>>(
      static_cast<const char*>(from), static_cast<__half2*>(to), quads, static_cast<int>(columns), row_bytes);
  return cudaGetLastError();
}

}  // namespace qwen

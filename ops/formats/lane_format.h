// Formats that are laid out by lanes (lanes.h).
#pragma once
#include "ops/formats/format.h"
#include "ops/formats/lanes.h"

#ifdef __CUDACC__
#include "ops/formats/lane_unpack.cuh"
#endif

namespace qwen {

// What these formats have in common. PLACES says where numbers and scales are: bytes_of, row_bytes and unpack of
// format.h and, for the CUDA kernels, Packing and kPieces (lanes.cuh).
template <class PLACES, int BITS> struct LaneFormat : Format<kFloat16, true, BITS> {
  static constexpr bool kOnCpu = true;
  static constexpr int kColumns = kLaneColumns, kRows = kLaneRows;
  QWEN_VL_ANYWHERE static constexpr int64_t bytes_of(int64_t columns) { return PLACES::bytes_of(columns); }
  QWEN_VL_ANYWHERE static constexpr int64_t row_bytes(int64_t columns) { return PLACES::row_bytes(columns); }
  static void unpack(const void* matrix, const void*, int64_t first, int64_t rows, int64_t columns, float* to) {
    PLACES::unpack(matrix, first, rows, columns, to);
  }
#ifdef __CUDACC__
  using Value = __half;
  using Share = LaneDecodeShare<typename PLACES::Packing, PLACES::kPieces>;
  using Tiles = LaneTiles<typename PLACES::Packing>;
  static int unpack(const void* from, void* to, long long rows, long long columns, cudaStream_t stream) {
    return lane_unpack<typename PLACES::Packing>(from, to, rows, columns, row_bytes(columns), stream);
  }
#endif
};

}  // namespace qwen

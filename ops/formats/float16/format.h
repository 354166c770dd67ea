// Half precision as it is, for CUDA kernels. What the fields are: ops/formats/format.h.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>

#include "ops/kernels/decode/weights.cuh"
#include "ops/kernels/products/half_tiles.cuh"
#endif

namespace qwen {
struct Float16 : Format<kFloat16, true, 16, true> {
  static constexpr std::string_view kName = "float16";
#ifdef __CUDACC__
  using Value = __half;
  using Share = HalfShare;
  using Tiles = HalfTiles<__half>;
#endif
};
}  // namespace qwen
QWEN_VL_FORMAT(Float16)

// bfloat16 as it is, for CUDA kernels. What the fields are: ops/formats/format.h.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>

#include "ops/kernels/decode/weights.cuh"
#include "ops/kernels/products/half_tiles.cuh"
#endif

namespace qwen {
struct Bfloat16 : Format<kBfloat16, true, 16, true> {
  static constexpr std::string_view kName = "bfloat16";
#ifdef __CUDACC__
  using Value = __nv_bfloat16;
  using Share = HalfShare;
  using Tiles = HalfTiles<__nv_bfloat16>;
#endif
};
}  // namespace qwen
QWEN_VL_FORMAT(Bfloat16)

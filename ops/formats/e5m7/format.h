// float16 weights that are bfloat16 values too, in 13 bits without loss, for CUDA kernels; the bits: reference.py.
// What the fields are: ops/formats/format.h.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>

#include "ops/formats/e5m7/pack.h"
#include "ops/formats/e5m7/step_share.cuh"
#include "ops/formats/e5m7/tiles.cuh"
#endif

namespace qwen {
struct E5m7 : Format<kFloat16, true, 13> {
  static constexpr std::string_view kName = "e5m7";
  static constexpr int kColumns = 128, kRows = 8;
#ifdef __CUDACC__
  using Value = __half;
  using Share = E5m7DecodeShare;
  using Tiles = E5m7Tiles;
  static constexpr auto unpack = qwen_vl_e5m7_unpack;
#endif
};
}  // namespace qwen
QWEN_VL_FORMAT(E5m7)

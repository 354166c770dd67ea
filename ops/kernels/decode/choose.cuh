// The end of a step: the token with the largest logit, and the rows' state.
#pragma once

#include "ops/kernels/decode/block.cuh"
#include "ops/kernels/sampling/advance.h"

namespace qwen {

// Run by one block after all blocks have left their best: a warp for each row.
__device__ inline void choose_tokens(const Params& p) {
  const QwenVlDecodeArgs& a = p.args;
  const int row = threadIdx.x / 32, lane = threadIdx.x & 31;
  if (row >= a.batch) return;
  Best best = {-INFINITY, 0x7fffffff};
  for (int i = lane; i < static_cast<int>(gridDim.x); i += 32) {
    best.take(__ldcg(&p.best[i * kMaxRows + row].value), __ldcg(&p.best[i * kMaxRows + row].index));
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    best.take(__shfl_xor_sync(0xffffffffu, best.value, distance), __shfl_xor_sync(0xffffffffu, best.index, distance));
  }
  if (lane != 0 || a.finished[row]) return;
  advance(a, row, best.index < a.vocab ? best.index : 0, 1);  // no logit compares where all are NaN
}

}  // namespace qwen

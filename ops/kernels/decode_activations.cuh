// Bringing the input of a matrix product into shared memory, as [rows] of T, `activation_stride` bytes apart.
#pragma once

#include <math.h>

#include "common/decode_types.cuh"
#include "decode_block.cuh"

namespace decode {

constexpr int kLoadBatch = 4;  // 8-value pieces of a thread in flight

// RMSNorm of the residual. The sum of squares comes as one share per block, so that this is a single pass.
template <typename T>
__device__ void load_normed(const Params& p, const void* weight, char* to, BlockState& block) {
  const QwenVlDecodeArgs& a = p.args;
  const int pieces = a.hidden / 8, total = a.batch * pieces, stride = activation_stride(a.hidden);
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
  for (int start = 0; start < total; start += kLoadBatch * kComputeThreads) {
    float4 low[kLoadBatch], high[kLoadBatch];
    uint4 scale[kLoadBatch];
#pragma unroll
    for (int i = 0; i < kLoadBatch; ++i) {
      const int piece = start + i * kComputeThreads + threadIdx.x;
      if (piece >= total) continue;
      const float4* from = reinterpret_cast<const float4*>(p.residual) + 2 * piece;
      low[i] = __ldcg(from);
      high[i] = __ldcg(from + 1);
      scale[i] = __ldg(static_cast<const uint4*>(weight) + piece % pieces);
    }
    if (start == 0) {
      if (warp < a.batch) {
        float sum = 0;
        for (int i = lane; i < static_cast<int>(gridDim.x); i += 32) sum += __ldcg(p.squares + i * kMaxRows + warp);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        if (lane == 0) block.inverse_rms[warp] = 1.0f / sqrtf(sum / a.hidden + a.epsilon);
      }
      sync_compute();
    }
#pragma unroll
    for (int i = 0; i < kLoadBatch; ++i) {
      const int piece = start + i * kComputeThreads + threadIdx.x;
      if (piece >= total) continue;
      const int row = piece / pieces;
      const float r = block.inverse_rms[row];
      float w[8];
      unpack<T>(scale[i], w);
      const float x[8] = {low[i].x * r * w[0],  low[i].y * r * w[1],  low[i].z * r * w[2],  low[i].w * r * w[3],
                          high[i].x * r * w[4], high[i].y * r * w[5], high[i].z * r * w[6], high[i].w * r * w[7]};
      *reinterpret_cast<uint4*>(to + row * stride + piece % pieces * 16) = pack<T>(x);
    }
  }
  sync_compute();
}

// The attention of all heads and rows, as far as its words come in.
__device__ inline void load_attended(const Params& p, char* to, unsigned tag) {
  const QwenVlDecodeArgs& a = p.args;
  const int pieces = a.hidden / 8, total = a.batch * pieces, stride = activation_stride(a.hidden);
  for (int start = threadIdx.x; start < total; start += kLoadBatch * kComputeThreads) {
    const WordPair* from = reinterpret_cast<const WordPair*>(p.attended) + 2 * start;
    const int valid = (total - start + kComputeThreads - 1) / kComputeThreads;
    WordPair low[kLoadBatch], high[kLoadBatch];
    receive(low, from, 2 * kComputeThreads, valid, tag);
    receive(high, from + 1, 2 * kComputeThreads, valid, tag);
#pragma unroll
    for (int i = 0; i < kLoadBatch; ++i) {
      if (i >= valid) continue;
      const int piece = start + i * kComputeThreads;
      *reinterpret_cast<uint4*>(to + piece / pieces * stride + piece % pieces * 16) =
          make_uint4(payload(low[i].first), payload(low[i].second), payload(high[i].first), payload(high[i].second));
    }
  }
  sync_compute();
}

}  // namespace decode

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

// The attention of all heads, put together from the splits of each row's context.
template <typename T>
__device__ void load_merged_attention(const Params& p, char* to) {
  const QwenVlDecodeArgs& a = p.args;
  const int pieces = a.hidden / 8, total = a.batch * pieces, stride = activation_stride(a.hidden);
#pragma unroll 2
  for (int piece = threadIdx.x; piece < total; piece += kComputeThreads) {
    const int row = piece / pieces, column = piece % pieces * 8;
    const int head = column / a.head_dim, unit = (row * a.heads + head) * p.splits;
    float2 weight[kMaxSplits];
    float maximum = -INFINITY;
#pragma unroll
    for (int s = 0; s < kMaxSplits; ++s) {
      weight[s] = s < p.splits ? __ldcg(p.part_weight + unit + s) : make_float2(-INFINITY, 0);
      maximum = fmaxf(maximum, weight[s].x);
    }
    float x[8] = {}, sum = 0;
#pragma unroll
    for (int s = 0; s < kMaxSplits; ++s) {
      if (s >= p.splits) continue;
      const float4* from = reinterpret_cast<const float4*>(p.part + size_t(unit + s) * a.head_dim + column % a.head_dim);
      const float4 low = __ldcg(from), high = __ldcg(from + 1);
      const float v[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      const float w = weight[s].x == -INFINITY ? 0.0f : exp2f(weight[s].x - maximum);
      sum += w * weight[s].y;
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] += w * v[i];
    }
    const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] *= inverse;
    *reinterpret_cast<uint4*>(to + row * stride + piece % pieces * 16) = pack<T>(x);
  }
  sync_compute();
}

}  // namespace decode

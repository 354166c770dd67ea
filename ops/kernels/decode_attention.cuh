// Attention of one query per row and head to that row's cache; the context is split over blocks where they are many.
#pragma once

#include <math.h>

#include "common/decode_types.cuh"
#include "decode_block.cuh"
#include "decode_ring.cuh"

namespace decode {

// A running softmax: eight lanes share it, each with every eighth 8-value piece of the head.
template <typename T, int Pieces>
struct RunningSoftmax {
  float maximum = -INFINITY, sum = 0;
  float value[Pieces][8] = {};

  __device__ static int piece_offset(int j) { return (j * 8 + int(threadIdx.x & 7)) * 8; }

  __device__ void add(const float (&query)[Pieces][8], const uint4 (&key)[Pieces], const uint4 (&slot_value)[Pieces]) {
    float score = 0;
#pragma unroll
    for (int j = 0; j < Pieces; ++j) {
      float k[8];
      unpack<T>(key[j], k);
#pragma unroll
      for (int i = 0; i < 8; ++i) score += query[j][i] * k[i];
    }
    const unsigned group = 0xffu << (threadIdx.x & 24);
#pragma unroll
    for (int distance = 4; distance > 0; distance /= 2) score += __shfl_xor_sync(group, score, distance);
    const float top = fmaxf(maximum, score);
    const float keep = exp2f(maximum - top), weight = exp2f(score - top);
    sum = sum * keep + weight;
    maximum = top;
#pragma unroll
    for (int j = 0; j < Pieces; ++j) {
      float v[8];
      unpack<T>(slot_value[j], v);
#pragma unroll
      for (int i = 0; i < 8; ++i) value[j][i] = value[j][i] * keep + weight * v[i];
    }
  }

  // Merge with the groups of the other lanes; afterwards all groups of the warp hold the same.
  __device__ void merge_warp() {
#pragma unroll
    for (int distance = 8; distance <= 16; distance *= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, maximum, distance);
      const float top = fmaxf(maximum, other);
      const float keep = maximum == -INFINITY ? 0.0f : exp2f(maximum - top);
      sum *= keep;
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      maximum = top;
#pragma unroll
      for (int j = 0; j < Pieces; ++j) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          value[j][i] *= keep;
          value[j][i] += __shfl_xor_sync(0xffffffffu, value[j][i], distance);
        }
      }
    }
  }
};

// Pieces: ceil(head_dim / 64). `scratch` holds kWarps * (head_dim + 2) floats.
template <typename T, int Pieces>
__device__ void attend(const Params& p, Ring& ring, int layer, const BlockState& block, float* scratch) {
  using Softmax = RunningSoftmax<T, Pieces>;
  const QwenVlDecodeArgs& a = p.args;
  const int warp = threadIdx.x / 32, lane = threadIdx.x & 31, group = threadIdx.x / 8;
  const int slots = stage_slots(a.head_dim), values_at = slots * a.head_dim * 2;
  for (int unit = blockIdx.x; unit < a.batch * a.heads * p.splits; unit += gridDim.x) {
    const AttentionUnit u = attention_unit(unit, a.heads, p.splits, block.lengths);
    float query[Pieces][8] = {};
#pragma unroll
    for (int j = 0; j < Pieces; ++j) {
      if (Softmax::piece_offset(j) >= a.head_dim) continue;
      const float4* from = reinterpret_cast<const float4*>(p.query + u.row * a.hidden + u.head * a.head_dim +
                                                           Softmax::piece_offset(j));
      const float4 low = __ldcg(from), high = __ldcg(from + 1);
      query[j][0] = low.x, query[j][1] = low.y, query[j][2] = low.z, query[j][3] = low.w;
      query[j][4] = high.x, query[j][5] = high.y, query[j][6] = high.z, query[j][7] = high.w;
    }

    Softmax softmax;
    uint4 key[Pieces] = {}, value[Pieces] = {};
    // The slot of this step's token was written during this launch: it comes from memory, not through the ring.
    if (u.cached_end < u.end && group == kComputeThreads / 8 - 1) {
      const size_t at = cache_offset(a, layer, u.row, u.head, u.cached_end);
#pragma unroll
      for (int j = 0; j < Pieces; ++j) {
        if (Softmax::piece_offset(j) >= a.head_dim) continue;
        key[j] = __ldcg(reinterpret_cast<const uint4*>(static_cast<const T*>(a.k_cache) + at + Softmax::piece_offset(j)));
        value[j] = __ldcg(reinterpret_cast<const uint4*>(static_cast<const T*>(a.v_cache) + at + Softmax::piece_offset(j)));
      }
      softmax.add(query, key, value);
    }
    __syncwarp();
    for (int begin = u.begin; begin < u.cached_end; begin += slots) {
      const int count = min(slots, u.cached_end - begin);
      ring.wait_full();
      for (int slot = group; slot < count; slot += kComputeThreads / 8) {
        const char* from = ring.data() + slot * a.head_dim * 2;
#pragma unroll
        for (int j = 0; j < Pieces; ++j) {
          if (Softmax::piece_offset(j) >= a.head_dim) continue;
          key[j] = *reinterpret_cast<const uint4*>(from + Softmax::piece_offset(j) * 2);
          value[j] = *reinterpret_cast<const uint4*>(from + values_at + Softmax::piece_offset(j) * 2);
        }
        softmax.add(query, key, value);
      }
      ring.release();
    }

    softmax.merge_warp();
    float* own = scratch + warp * (a.head_dim + 2);
    if (lane < 8) {
#pragma unroll
      for (int j = 0; j < Pieces; ++j) {
        if (Softmax::piece_offset(j) >= a.head_dim) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i) own[Softmax::piece_offset(j) + i] = softmax.value[j][i];
      }
      if (lane == 0) {
        own[a.head_dim] = softmax.maximum;
        own[a.head_dim + 1] = softmax.sum;
      }
    }
    sync_compute();
    if (static_cast<int>(threadIdx.x) < a.head_dim) {
      float top = -INFINITY, sum = 0, result = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, scratch[w * (a.head_dim + 2) + a.head_dim]);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float* from = scratch + w * (a.head_dim + 2);
        const float weight = from[a.head_dim] == -INFINITY ? 0.0f : exp2f(from[a.head_dim] - top);
        sum += weight * from[a.head_dim + 1];
        result += weight * from[threadIdx.x];
      }
      if (p.splits == 1) {
        static_cast<T*>(p.attended)[u.row * a.hidden + u.head * a.head_dim + threadIdx.x] =
            from_float<T>(sum > 0 ? result / sum : 0.0f);
      } else {
        p.part[size_t(unit) * a.head_dim + threadIdx.x] = result;
        if (threadIdx.x == 0) p.part_weight[unit] = make_float2(top, sum);
      }
    }
    sync_compute();
  }
}

}  // namespace decode

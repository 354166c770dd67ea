// Attention of one query per row and head to that row's cache; the context is split over blocks where they are many.
#pragma once

#include <math.h>
#include <string.h>

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

// The words of one head's 8-value piece.
__device__ inline void unpack_words(const WordPair* words, float (&to)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = float_payload(words[i].first);
    to[2 * i + 1] = float_payload(words[i].second);
  }
}

template <typename T>
__device__ void publish_attended(const Params& p, const AttentionUnit& u, int dim, float2 value, float sum,
                                 unsigned tag) {
  const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
  const T pair[2] = {from_float<T>(value.x * inverse), from_float<T>(value.y * inverse)};
  uint32_t packed;
  memcpy(&packed, pair, sizeof(packed));
  publish(p.attended + (u.row * p.args.hidden + u.head * p.args.head_dim + dim) / 2, make_word(packed, tag));
}

// The blocks of one head's splits each put together a slice of its dimensions.
template <typename T>
__device__ void merge_splits(const Params& p, const AttentionUnit& u, int unit, unsigned tag) {
  const int head_dim = p.args.head_dim, pairs = head_dim / 2;
  const int dim = 2 * (pairs * u.split / p.splits + static_cast<int>(threadIdx.x));
  if (dim >= 2 * (pairs * (u.split + 1) / p.splits)) return;
  const int first = unit - u.split;
  const WordPair* weight_from = reinterpret_cast<const WordPair*>(p.part_weight) + first;
  const WordPair* part_from = reinterpret_cast<const WordPair*>(p.part + size_t(first) * head_dim + dim);
  WordPair words[2 * kMaxSplits];  // of each split: maximum and sum; two values
  receive(words, [&](int i) -> const WordPair* {
    if (i / 2 >= p.splits) return nullptr;
    return i % 2 == 0 ? weight_from + i / 2 : part_from + i / 2 * pairs;
  }, tag);
  float top = -INFINITY, sum = 0;
  float2 value = make_float2(0, 0);
#pragma unroll
  for (int s = 0; s < kMaxSplits; ++s) {
    if (s < p.splits) top = fmaxf(top, float_payload(words[2 * s].first));
  }
#pragma unroll
  for (int s = 0; s < kMaxSplits; ++s) {
    if (s >= p.splits) continue;
    const float maximum = float_payload(words[2 * s].first);
    const float w = maximum == -INFINITY ? 0.0f : exp2f(maximum - top);
    sum += w * float_payload(words[2 * s].second);
    value.x += w * float_payload(words[2 * s + 1].first);
    value.y += w * float_payload(words[2 * s + 1].second);
  }
  publish_attended<T>(p, u, dim, value, sum, tag);
}

// Pieces: ceil(head_dim / 64). `scratch` holds kWarps * (head_dim + 2) floats.
template <typename T, int Pieces>
__device__ void attend(const Params& p, Ring& ring, int layer, const BlockState& block, float* scratch, unsigned tag) {
  using Softmax = RunningSoftmax<T, Pieces>;
  const QwenVlDecodeArgs& a = p.args;
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31, group = thread / 8;
  const int slots = stage_slots(a.head_dim), values_at = slots * a.head_dim * 2;
  for (int unit = blockIdx.x; unit < a.batch * a.heads * p.splits; unit += gridDim.x) {
    const AttentionUnit u = attention_unit(unit, a.heads, p.splits, block.lengths);
    const size_t head_at = u.row * a.hidden + u.head * a.head_dim;
    float query[Pieces][8];
    uint4 key[Pieces], value[Pieces];
    {
      WordPair words[Pieces * 4] = {};
      receive(words, [&](int i) -> const WordPair* {
        const int offset = Softmax::piece_offset(i / 4);
        return offset < a.head_dim ? reinterpret_cast<const WordPair*>(p.query + head_at + offset) + i % 4 : nullptr;
      }, tag);
#pragma unroll
      for (int j = 0; j < Pieces; ++j) unpack_words(words + 4 * j, query[j]);
    }
    Softmax softmax;
    // The slot of this step's token comes as words, not through the ring: its cache slot is being written.
    if (u.cached_end < u.end && group == kComputeThreads / 8 - 1) {
      WordPair words[2 * Pieces * 4] = {};
      receive(words, [&](int i) -> const WordPair* {
        const int offset = Softmax::piece_offset(i / 4 % Pieces);
        const Word* from = i / 4 < Pieces ? p.key : p.value;
        return offset < a.head_dim ? reinterpret_cast<const WordPair*>(from + head_at + offset) + i % 4 : nullptr;
      }, tag);
#pragma unroll
      for (int j = 0; j < Pieces; ++j) {
        float fresh[8];
        unpack_words(words + 4 * j, fresh);
        key[j] = pack<T>(fresh);
        unpack_words(words + 4 * (Pieces + j), fresh);
        value[j] = pack<T>(fresh);
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
    if (static_cast<int>(threadIdx.x) < a.head_dim / 2) {
      const int dim = 2 * threadIdx.x;
      float top = -INFINITY, sum = 0;
      float2 result = make_float2(0, 0);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, scratch[w * (a.head_dim + 2) + a.head_dim]);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float* from = scratch + w * (a.head_dim + 2);
        const float weight = from[a.head_dim] == -INFINITY ? 0.0f : exp2f(from[a.head_dim] - top);
        sum += weight * from[a.head_dim + 1];
        result.x += weight * from[dim];
        result.y += weight * from[dim + 1];
      }
      if (p.splits == 1) {
        publish_attended<T>(p, u, dim, result, sum, tag);
      } else {
        Word* part = p.part + size_t(unit) * a.head_dim + dim;
        publish(part, make_word(result.x, tag));
        publish(part + 1, make_word(result.y, tag));
        if (threadIdx.x == 0) {
          publish(p.part_weight + 2 * unit, make_word(top, tag));
          publish(p.part_weight + 2 * unit + 1, make_word(sum, tag));
        }
        merge_splits<T>(p, u, unit, tag);  // one unit a block, so nobody waits for a block that waits
      }
    }
    sync_compute();
  }
}

}  // namespace decode

// Attention of one query per row and head to that row's cache; the context is split over blocks where they are many.
#pragma once

#include <math.h>
#include <string.h>

#include "ops/kernels/common/vector.cuh"
#include "ops/kernels/decode/block.cuh"
#include "ops/kernels/decode/ring.cuh"

namespace qwen {

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
      Vector<T>{key[j]}.unpack(k);
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
      Vector<T>{slot_value[j]}.unpack(v);
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

template <typename T>
__device__ void publish_attended(const Params& p, const AttentionUnit& u, int dim, float2 value, float sum,
                                 unsigned tag) {
  const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
  const T pair[2] = {from_float<T>(value.x * inverse), from_float<T>(value.y * inverse)};
  uint32_t packed;
  memcpy(&packed, pair, sizeof(packed));
  publish(p.attended + (u.row * p.args.hidden + u.head * p.args.head_dim + dim) / 2, make_word(packed, tag));
}

// The blocks of one head's splits each put together a slice of its dimensions: the lanes of a warp take eight pairs of
// dimensions of four splits.
template <typename T>
__device__ void merge_splits(const Params& p, const AttentionUnit& u, int unit, unsigned tag) {
  static_assert(kMaxSplits == 4, "a lane's split is lane / 8");
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31, split = lane / 8;
  const int head_dim = p.args.head_dim, pairs = head_dim / 2;
  const int pair = pairs * u.split / p.splits + warp * 8 + lane % 8, end = pairs * (u.split + 1) / p.splits;
  if (pair - lane % 8 >= end) return;
  const bool valid = pair < end && split < p.splits;
  WordPair words[2];  // maximum and sum; two values
  const WordPair* weight_from = reinterpret_cast<const WordPair*>(p.part_weight) + unit - u.split + split;
  const WordPair* value_from =
      reinterpret_cast<const WordPair*>(p.part + size_t(unit - u.split + split) * head_dim) + pair;
  receive(words, [&](int i) { return !valid ? nullptr : i == 0 ? weight_from : value_from; }, tag);
  float maximum = valid ? float_payload(words[0].first) : -INFINITY;
  float top = maximum;
#pragma unroll
  for (int distance = 8; distance <= 16; distance *= 2) {
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, distance));
  }
  const float weight = maximum == -INFINITY ? 0.0f : exp2f(maximum - top);
  float sum = valid ? weight * float_payload(words[0].second) : 0.0f;
  float2 value = valid ? make_float2(weight * float_payload(words[1].first), weight * float_payload(words[1].second))
                       : make_float2(0, 0);
#pragma unroll
  for (int distance = 8; distance <= 16; distance *= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    value.x += __shfl_xor_sync(0xffffffffu, value.x, distance);
    value.y += __shfl_xor_sync(0xffffffffu, value.y, distance);
  }
  if (valid && split == 0) publish_attended<T>(p, u, 2 * pair, value, sum, tag);
}

// What this step's token brings, in shared memory.
template <typename T>
struct Fresh {
  float* query;  // [head_dim] each
  T *key, *value;

  __device__ Fresh(char* memory, int head_dim)
      : query(reinterpret_cast<float*>(memory)), key(reinterpret_cast<T*>(query + head_dim)), value(key + head_dim) {}
};

// Bring the query of the unit's row and head and, where the unit has the step's own slot (which comes as words, since
// its cache slot is being written), its key and value.
template <typename T>
__device__ void receive_fresh(const Params& p, const AttentionUnit& u, const Fresh<T>& fresh, unsigned tag) {
  const int head_dim = p.args.head_dim, pairs = head_dim / 2;
  const size_t head_at = u.row * p.args.hidden + u.head * head_dim;
  const int wanted = u.cached_end < u.end ? 3 * pairs : pairs;
#pragma unroll 1
  for (int i = thread_index(); i < wanted; i += kComputeThreads) {
    const int array = i / pairs, dim = i % pairs * 2;
    const Word* from = array == 0 ? p.query : array == 1 ? p.key : p.value;
    WordPair words[1];
    receive(words, [&](int) { return reinterpret_cast<const WordPair*>(from + head_at + dim); }, tag);
    const float x = float_payload(words[0].first), y = float_payload(words[0].second);
    if (array == 0) {
      fresh.query[dim] = x;
      fresh.query[dim + 1] = y;
    } else {
      T* to = array == 1 ? fresh.key : fresh.value;
      to[dim] = from_float<T>(x);
      to[dim + 1] = from_float<T>(y);
    }
  }
  sync_compute();
}

// Pieces: ceil(head_dim / 64). `scratch` holds attention_scratch(head_dim) bytes.
template <typename T, int Pieces>
__device__ void attend(const Params& p, Ring& ring, int layer, const BlockState& block, char* scratch, unsigned tag) {
  using Softmax = RunningSoftmax<T, Pieces>;
  const QwenVlDecodeArgs& a = p.args;
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31, group = thread / 8;
  const int slots = stage_slots(ring.stage_bytes, a.head_dim), values_at = slots * a.head_dim * 2;
  float* partial = reinterpret_cast<float*>(scratch);  // [kWarps, head_dim + 2]
  const Fresh<T> fresh(reinterpret_cast<char*>(partial + kWarps * (a.head_dim + 2)), a.head_dim);
#pragma unroll 1
  for (int unit = blockIdx.x; unit < a.batch * a.heads * p.splits; unit += gridDim.x) {
    const AttentionUnit u = attention_unit(unit, a.heads, p.splits, block.lengths);
    receive_fresh(p, u, fresh, tag);
    float query[Pieces][8];
#pragma unroll
    for (int j = 0; j < Pieces; ++j) {
      const int offset = Softmax::piece_offset(j);
#pragma unroll
      for (int i = 0; i < 8; ++i) query[j][i] = offset < a.head_dim ? fresh.query[offset + i] : 0.0f;
    }
    Softmax softmax;
    // First the slots in the ring, stage by stage, then the step's own.
#pragma unroll 1
    for (int begin = u.begin; begin < u.end;) {
      const bool cached = begin < u.cached_end;
      const int count = cached ? min(slots, u.cached_end - begin) : 1;
      if (cached) ring.wait_full();
#pragma unroll 1
      for (int slot = group; slot < count; slot += kComputeThreads / 8) {
        const char* keys = cached ? ring.data() + slot * a.head_dim * 2 : reinterpret_cast<const char*>(fresh.key);
        const char* values =
            cached ? ring.data() + slot * a.head_dim * 2 + values_at : reinterpret_cast<const char*>(fresh.value);
        uint4 key[Pieces], value[Pieces];
#pragma unroll
        for (int j = 0; j < Pieces; ++j) {
          const int offset = Softmax::piece_offset(j);
          key[j] = value[j] = make_uint4(0, 0, 0, 0);
          if (offset >= a.head_dim) continue;
          key[j] = *reinterpret_cast<const uint4*>(keys + offset * 2);
          value[j] = *reinterpret_cast<const uint4*>(values + offset * 2);
        }
        softmax.add(query, key, value);
      }
      if (cached) ring.release();
      begin += count;
    }

    softmax.merge_warp();
    float* own = partial + warp * (a.head_dim + 2);
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
      for (int w = 0; w < kWarps; ++w) top = fmaxf(top, partial[w * (a.head_dim + 2) + a.head_dim]);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float* from = partial + w * (a.head_dim + 2);
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
      }
    }
    if (p.splits > 1) merge_splits<T>(p, u, unit, tag);  // one unit a block: nobody waits for a block that waits
    sync_compute();
  }
}

}  // namespace qwen

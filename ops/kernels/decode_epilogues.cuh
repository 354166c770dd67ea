// What becomes of a matrix product's results; `prepare` starts the loads that `finish` needs.
#pragma once

#include <math.h>

#include "common/decode_types.cuh"
#include "decode_block.cuh"

namespace decode {

// qkv: bias, rotation, scaling; the results go to the attention, keys and values into the cache as well.
template <typename T>
struct QkvEpilogue {
  const Params& p;
  const BlockState& block;
  const float* rotary;  // [rows, head_dim / 2] of (cos, sin)
  int layer;
  unsigned tag;
  T bias[2];

  __device__ void prepare(int unit, int) {
    const int half = p.args.head_dim / 2, first = unit / half * (2 * half) + unit % half;
    const T* from = static_cast<const T*>(p.args.qkv_bias) + size_t(layer) * 3 * p.args.hidden + first;
    bias[0] = from[0];
    bias[1] = from[half];
  }

  __device__ void finish(int unit, int row, float value, float partner) {
    const QwenVlDecodeArgs& a = p.args;
    const int half = a.head_dim / 2, i = unit % half;
    const int section = unit / half / a.heads, head = unit / half % a.heads;
    float x = value + to_float(bias[0]), y = partner + to_float(bias[1]);
    if (section < 2) {
      const float2 turn = reinterpret_cast<const float2*>(rotary)[row * half + i];
      const float rotated = x * turn.x - y * turn.y;
      y = y * turn.x + x * turn.y;
      x = rotated;
    }
    const int at = row * a.hidden + head * a.head_dim + i;
    if (section == 0) {
      publish(p.query + at, make_word(x * block.query_scale[row], tag));
      publish(p.query + at + half, make_word(y * block.query_scale[row], tag));
      return;
    }
    const T stored[2] = {from_float<T>(x), from_float<T>(y)};
    Word* fresh = (section == 1 ? p.key : p.value) + at;
    publish(fresh, make_word(to_float(stored[0]), tag));
    publish(fresh + half, make_word(to_float(stored[1]), tag));
    if (block.lengths[row] > 0 && block.positions[row] < a.cache_slots) {
      T* cache = static_cast<T*>(section == 1 ? a.k_cache : a.v_cache);
      T* to = cache + cache_offset(a, layer, row, head, block.positions[row]) + i;
      to[0] = stored[0];
      to[half] = stored[1];
    }
  }
};

// Adds to the residual and gathers the sum of its squares for the next norm.
template <typename T>
struct ResidualEpilogue {
  const Params& p;
  float old;
  float squares = 0;

  __device__ explicit ResidualEpilogue(const Params& params) : p(params) {}
  __device__ void prepare(int unit, int row) { old = __ldcg(p.residual + row * p.args.hidden + unit); }
  __device__ void finish(int unit, int row, float value, float) { store(unit, row, old + value); }
  __device__ void store(int unit, int row, float x) {
    p.residual[row * p.args.hidden + unit] = x;
    static_cast<T*>(p.rounded)[row * p.args.hidden + unit] = from_float_finite<T>(x);
    squares += x * x;
  }
};

// gate|up: up * silu(gate).
template <typename T>
struct MlpEpilogue {
  const Params& p;

  __device__ void prepare(int, int) {}
  __device__ void finish(int unit, int row, float gate, float up) {
    const float x = up * gate / (1.0f + expf(-gate));
    static_cast<T*>(p.mlp)[size_t(row) * p.args.mlp_width + unit] = from_float<T>(x);
  }
};

// lm_head: logits, and the largest one seen by this thread (the first of equals, since units ascend).
struct LogitsEpilogue {
  const Params& p;
  Best best = {-INFINITY, 0x7fffffff};

  __device__ explicit LogitsEpilogue(const Params& params) : p(params) {}
  __device__ void prepare(int, int) {}
  __device__ void finish(int unit, int row, float value, float) {
    p.args.logits[size_t(row) * p.args.vocab + unit] = value;
    if (value > best.value) best = {value, unit};
  }
};

}  // namespace decode

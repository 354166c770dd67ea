// What becomes of the matrix products' results.
#pragma once

#include <math.h>

#include "ops/kernels/common/vector.cuh"
#include "ops/kernels/decode/block.cuh"

namespace qwen {

// The largest finite value in place of infinity.
template <typename T>
__device__ inline T from_float_finite(float v) {
  return from_float<T>(v);
}
template <>
__device__ inline __half from_float_finite<__half>(float v) {
  return from_float<__half>(fminf(fmaxf(v, -65504.0f), 65504.0f));
}

// For the product of one role: `prepare` starts the loads that `finish` needs.
template <typename T>
struct Epilogue {
  const Params& p;
  const BlockState& block;
  const float* rotary;  // [rows, head_dim / 2] of (cos, sin)
  Role role;
  int layer;
  unsigned tag;
  float squares;  // of the residual's new values
  Best best;      // the largest logit seen by this thread (the first of equals, since units ascend)
  float early[2];

  __device__ Epilogue(const Params& params, const BlockState& state, const float* turns)
      : p(params), block(state), rotary(turns), best{-INFINITY, 0x7fffffff} {}

  __device__ void begin(const Product& m, unsigned layer_tag) {
    role = m.role;
    layer = m.layer;
    tag = layer_tag;
    squares = 0;
  }

  __device__ void prepare(int unit, int row) {
    if (role == kOut || role == kDown) early[0] = __ldcg(p.residual + row * p.args.hidden + unit);
    if (role == kQkv) {
      const int half = p.args.head_dim / 2, first = unit / half * (2 * half) + unit % half;
      const T* bias = static_cast<const T*>(p.args.qkv_bias) + size_t(layer) * 3 * p.args.hidden + first;
      early[0] = to_float(bias[0]);
      early[1] = to_float(bias[half]);
    }
  }

  __device__ void finish(int unit, int row, float value, float partner) {
    switch (role) {
      case kQkv: return finish_qkv(unit, row, value + early[0], partner + early[1]);
      case kOut:
      case kDown: return store_residual(unit, row, early[0] + value);
      case kGateUp: {
        const float x = partner * value / (1.0f + expf(-value));
        static_cast<T*>(p.mlp)[size_t(row) * p.args.mlp_width + unit] = from_float<T>(x);
        return;
      }
      case kHead:
        p.args.logits[size_t(row) * p.args.vocab + unit] = value;
        if (value > best.value) best = {value, unit};
    }
  }

  __device__ void store_residual(int unit, int row, float x) {
    p.residual[row * p.args.hidden + unit] = x;
    static_cast<T*>(p.rounded)[row * p.args.hidden + unit] = from_float_finite<T>(x);
    squares += x * x;
  }

 private:
  // Rotation, scaling; the results go to the attention, keys and values into the cache as well.
  __device__ void finish_qkv(int unit, int row, float x, float y) {
    const QwenVlDecodeArgs& a = p.args;
    const int half = a.head_dim / 2, i = unit % half;
    const int section = unit / half / a.heads, head = unit / half % a.heads;
    if (section < 2) {
      const float2 turn = reinterpret_cast<const float2*>(rotary)[row * half + i];
      const float rotated = x * turn.x - y * turn.y;
      y = y * turn.x + x * turn.y;
      x = rotated;
    }
    const int place = row * a.hidden + head * a.head_dim + i;
    if (section == 0) {
      publish(p.query + place, make_word(x * block.query_scale[row], tag));
      publish(p.query + place + half, make_word(y * block.query_scale[row], tag));
      return;
    }
    const T stored[2] = {from_float<T>(x), from_float<T>(y)};
    Word* fresh = (section == 1 ? p.key : p.value) + place;
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

}  // namespace qwen

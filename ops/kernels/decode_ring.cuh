// The ring of stages in shared memory: one warp fills it ahead of need, across grid barriers, since weights and old
// cache slots depend on nothing that this step computes; the other warps empty it.
#pragma once

#include "common/decode_ptx.cuh"
#include "decode_params.cuh"

namespace decode {

struct Ring {
  char* stages;
  uint64_t* full;
  uint64_t* empty;
  int count;
  int stage = 0;
  uint32_t parity = 0;

  __device__ static void init(uint64_t* full, uint64_t* empty, int count) {
    for (int i = 0; i < count; ++i) {
      mbarrier_init(&full[i], DECODE_BULK_COPY ? 1 : 32);
      mbarrier_init(&empty[i], kWarps);
    }
    mbarrier_init_fence();
  }

  __device__ char* data() const { return stages + stage * kStageBytes; }

  __device__ void advance() {
    if (++stage == count) {
      stage = 0;
      parity ^= 1;
    }
  }

  // Readers: wait for the stage; give it back (whole warp).
  __device__ void wait_full() const { mbarrier_wait(&full[stage], parity); }
  __device__ void release() {
    __syncwarp();
    if ((threadIdx.x & 31) == 0) mbarrier_arrive(&empty[stage]);
    advance();
  }
};

// The streaming warp's side: pieces of one stage are copied between begin() and end().
class Filler {
 public:
  __device__ explicit Filler(const Ring& ring) : ring_(ring), lane_(threadIdx.x & 31) {
#if DECODE_BULK_COPY
    policy_ = evict_first_policy();
#endif
  }

  __device__ void begin(uint32_t bytes) {
    mbarrier_wait(&ring_.empty[ring_.stage], ring_.parity ^ 1);
#if DECODE_BULK_COPY
    if (lane_ == 0) mbarrier_expect(&ring_.full[ring_.stage], bytes);
    __syncwarp();
#endif
  }

  __device__ void end() {
#if !DECODE_BULK_COPY
    mbarrier_arrive_after_copies(&ring_.full[ring_.stage]);
#endif
    ring_.advance();
  }

  // Weights: rows of one tile, columns [k0, k0 + count).
  template <bool Paired>
  __device__ void tile(const Matrix<Paired>& m, int tile_begin, int end_unit, int k0, int count) {
    const int units = min(end_unit - tile_begin, Matrix<Paired>::kTileUnits);
    const uint32_t row_bytes = count * 2;
    begin(row_bytes * units * (Paired ? 2 : 1));
    char* to = ring_.data();
#if DECODE_BULK_COPY
    if (lane_ < kTileRows && m.tile_unit(tile_begin, lane_) < end_unit) {
      bulk_copy(to + lane_ * kStageRowBytes, source(m, tile_begin, lane_, k0), row_bytes, &ring_.full[ring_.stage], policy_);
    }
#else
    for (int row = 0; row < kTileRows; ++row) {
      if (m.tile_unit(tile_begin, row) >= end_unit) continue;
      const char* from = source(m, tile_begin, row, k0);
      for (uint32_t i = lane_ * 16; i < row_bytes; i += 512) copy16(to + row * kStageRowBytes + i, from + i);
    }
#endif
    end();
  }

  // Keys and values of `slots` slots; values start at `values_at`.
  __device__ void cache(const void* keys, const void* values, uint32_t bytes, int values_at) {
    begin(2 * bytes);
    char* to = ring_.data();
#if DECODE_BULK_COPY
    if (lane_ < 2) {
      bulk_copy(to + (lane_ ? values_at : 0), lane_ ? values : keys, bytes, &ring_.full[ring_.stage], policy_);
    }
#else
    for (uint32_t i = lane_ * 16; i < bytes; i += 512) {
      copy16(to + i, static_cast<const char*>(keys) + i);
      copy16(to + values_at + i, static_cast<const char*>(values) + i);
    }
#endif
    end();
  }

 private:
  template <bool Paired>
  __device__ static const char* source(const Matrix<Paired>& m, int tile_begin, int row, int k0) {
    return static_cast<const char*>(m.weight) + (size_t(m.tile_row(tile_begin, row)) * m.columns + k0) * 2;
  }

  Ring ring_;
  int lane_;
#if DECODE_BULK_COPY
  uint64_t policy_;
#endif
};

template <bool Paired>
__device__ void stream_matrix(Filler& filler, const Matrix<Paired>& m, int turn) {
  constexpr int units = Matrix<Paired>::kTileUnits;
  const Range range = share(m.units, turn);
  for (int group = range.begin; group < range.end; group += Matrix<Paired>::kGroupUnits) {
    for (int k0 = 0; k0 < m.columns; k0 += kChunk) {
      const int count = min(kChunk, m.columns - k0);
      for (int tile = 0; tile < kGroupTiles && group + tile * units < range.end; ++tile) {
        filler.tile(m, group + tile * units, range.end, k0, count);
      }
    }
  }
}

__device__ inline void stream_cache(Filler& filler, const Params& p, int layer, const int* lengths) {
  const QwenVlDecodeArgs& a = p.args;
  const int slots = stage_slots(a.head_dim), values_at = slots * a.head_dim * 2;
  for (int unit = blockIdx.x; unit < a.batch * a.heads * p.splits; unit += gridDim.x) {
    const AttentionUnit u = attention_unit(unit, a.heads, p.splits, lengths);
    for (int slot = u.begin; slot < u.cached_end; slot += slots) {
      const size_t at = cache_offset(a, layer, u.row, u.head, slot) * 2;
      filler.cache(static_cast<const char*>(a.k_cache) + at, static_cast<const char*>(a.v_cache) + at,
                   min(slots, u.cached_end - slot) * a.head_dim * 2, values_at);
    }
  }
}

// Fetch small vectors that the computing warps will read soon into the L2 cache.
__device__ inline void prefetch_vector(const char* from, size_t bytes) {
  for (size_t i = (threadIdx.x & 31) * 128; i < bytes; i += 32 * 128) prefetch_l2(from + i);
}

// The whole step in the order in which the computing warps take it.
__device__ inline void stream_step(const Params& p, const Ring& ring, const int* lengths) {
  const QwenVlDecodeArgs& a = p.args;
  const size_t hidden_bytes = size_t(a.hidden) * 2;
  Filler filler(ring);
  for (int layer = 0; layer < a.layers; ++layer) {
    prefetch_vector(layer_of(a.ln_1_weight, layer, a.hidden), hidden_bytes);
    prefetch_vector(layer_of(a.qkv_bias, layer, size_t{3} * a.hidden), 3 * hidden_bytes);
    prefetch_vector(layer_of(a.ln_2_weight, layer, a.hidden), hidden_bytes);
    stream_matrix(filler, qkv_matrix(a, layer), turn_of(layer, 0));
    stream_cache(filler, p, layer, lengths);
    stream_matrix(filler, out_matrix(a, layer), turn_of(layer, 1));
    stream_matrix(filler, gate_up_matrix(a, layer), turn_of(layer, 2));
    stream_matrix(filler, down_matrix(a, layer), turn_of(layer, 3));
  }
  prefetch_vector(static_cast<const char*>(a.ln_f_weight), hidden_bytes);
  stream_matrix(filler, head_matrix(a), turn_of(a.layers, 0));
}

}  // namespace decode

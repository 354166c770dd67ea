// The ring of stages in shared memory: a few warps fill it ahead of need, across grid barriers, since weights and
// old cache slots depend on nothing that this step computes; the other warps empty it.
#pragma once

#include "ops/kernels/common/copies.cuh"
#include "ops/kernels/decode/params.cuh"

namespace qwen {

// Out of line, as what is seldom done is better small.
__device__ __noinline__ inline void outlast_stages() { outlast_copies(); }

struct Ring {
  char* stages;
  uint32_t full, empty;  // addresses of the first barriers in shared memory
  int count, stage_bytes;
  int stage = 0;
  uint32_t parity = 0;

  __device__ void init() const {
    for (int i = 0; i < count; ++i) {
      barrier_init(full + i * 8, QWEN_VL_BULK_COPY ? kStreamWarps : kStreamWarps * 32);
      barrier_init(empty + i * 8, kWarps);
    }
    barrier_init_fence();
  }

  __device__ char* data() const { return stages + stage * stage_bytes; }

  __device__ void advance() {
    if (++stage == count) {
      stage = 0;
      parity ^= 1;
    }
  }

  // Readers: wait for the stage; give it back (whole warp).
  __device__ bool wait_full(QwenVlWait wait = QWEN_VL_WAIT_STAGE_TO_READ) const {
    return wait_until(wait, [&] { return barrier_try(full + stage * 8, parity); });
  }
  __device__ void release() {
    test_delay();
    __syncwarp();
    if ((threadIdx.x & 31) == 0) barrier_arrive(empty + stage * 8);
    advance();
  }
};

// The streaming warps' side: each of them has a part in every stage, so that none can run a whole ring ahead.
class Filler {
 public:
  static constexpr int kRowLanes = 32 / kWarpRows;
  static constexpr int kRowBits = 4, kTracked = 64 / kRowBits;
  static_assert(kStageRows < 1 << kRowBits, "rows_ has the rows of a stage");

  // `limit`: of rows on their way, in shared memory; others change it.
  __device__ Filler(const Ring& ring, const volatile int* limit)
      : ring_(ring), oldest_(ring), limit_(limit), warp_((threadIdx.x - kComputeThreads) / 32), lane_(threadIdx.x & 31),
        data_(in_register(shared_address(ring.stages))) {
#if QWEN_VL_BULK_COPY
    policy_ = evict_first_policy();
#endif
  }

  // The row of a stage that this lane takes care of, together with its neighbours.
  __device__ int own_row() const { return warp_ * kWarpRows + lane_ / kRowLanes; }

  // `row_bytes` of each of `rows` rows; `from` is where this lane's row comes from, `ahead` bytes from there on will be
  // needed.
  __device__ void rows(const char* from, int rows, int row_bytes, int ahead) {
    const bool own = own_row() < rows;
    wait_for_room([&] {
      if (own && lane_ % kRowLanes == 0) bulk_prefetch(from, ahead);
    });
    request(from, own_row() * kChunk * 2, own ? row_bytes : 0,
            min(max(rows - warp_ * kWarpRows, 0), kWarpRows) * row_bytes, rows);
  }

  // kStageRows rows in `bytes` that stand at `from`; `ahead` bytes from there on will be needed. LINES: a warp's part
  // is whole lines of memory, as far as they go, where a fourth of the bytes may be no multiple of 16.
  template <bool LINES>
  __device__ void whole_stage(const char* from, int bytes, int ahead) {
    const int even = LINES ? (bytes / kStreamWarps + 127) / 128 * 128 : bytes / kStreamWarps;
    const int offset = LINES ? min(warp_ * even, bytes) : warp_ * even;
    const int part = LINES ? min(even, bytes - offset) : even;
    wait_for_room([&] {
      for (int i = 0; lane_ == 0 && part > 0 && i + bytes <= ahead; i += bytes) bulk_prefetch(from + offset + i, part);
    });
    request(from + offset, offset, lane_ < kRowLanes ? part : 0, part, kStageRows);
  }

  // Two pieces of `bytes` each, the second one to `second_at`.
  __device__ void two(const char* first, const char* second, int bytes, int second_at) {
    const bool own = warp_ < 2 && lane_ < kRowLanes;
    wait_for_room([] {});
    request(warp_ ? second : first, warp_ * second_at, own ? bytes : 0, warp_ < 2 ? bytes : 0, kStageRows);
  }

 private:
  // Until the next stage is empty; if it is not yet, `meanwhile` comes first.
  template <typename F>
  __device__ void wait_for_room(F meanwhile) const {
    const uint32_t empty = ring_.empty + ring_.stage * 8, parity = ring_.parity ^ 1;
    if (barrier_test(empty, parity)) return;
    meanwhile();
    __syncwarp();
    if (!wait_until(QWEN_VL_WAIT_STAGE_TO_FILL, [&] { return barrier_try(empty, parity); })) leave();
  }

  // The next stage, worth `rows` rows: kRowLanes neighbouring lanes together copy `bytes` to `at`, the warp as a whole
  // `warp_bytes`.
  //
  // Before this warp arrives for what comes into a slot, it stops following what was there before: that has arrived, as
  // it has been read. It must not ask for it later: a warp without rows in a stage completes the barrier's phase by
  // arriving where the others' bytes are there already, and two phases back looks like a phase to come.
  __device__ void request(const char* from, int offset, int bytes, int warp_bytes, int rows) {
    const uint32_t full = ring_.full + ring_.stage * 8;
    const uint32_t to = in_register(data_ + ring_.stage * ring_.stage_bytes + offset);
    if (stages_ == ring_.count) drop_oldest();
    test_delay();
#if QWEN_VL_BULK_COPY
    if (lane_ == 0) barrier_expect(full, warp_bytes);
    __syncwarp();
    wait_for_others(rows);
    if (bytes > 0 && lane_ % kRowLanes == 0) bulk_copy(to, from, bytes, full, policy_);
#else
    wait_for_others(rows);
#pragma unroll 8
    for (int i = lane_ % kRowLanes * 16; i < bytes; i += kRowLanes * 16) copy_async(to + i, from + i);
    barrier_arrive_after_copies(full);
#endif
    rows_ = rows_ << kRowBits | rows;
    in_flight_ += rows;
    ++stages_;
    ring_.advance();
  }

  // Until `rows` more may be on their way. This comes last before they are requested: whatever stands between costs
  // memory's time.
  __device__ void wait_for_others(int rows) {
    test_delay();
    const int limit = *limit_ - rows;
    while (stages_ > 0 && (in_flight_ > limit || stages_ == kTracked)) {
      const Ring stage = drop_oldest();
      if (!stage.wait_full(QWEN_VL_WAIT_COPIES)) leave();
    }
  }

  // No longer follows the oldest of the stages_ newest stages; returns it.
  __device__ Ring drop_oldest() {
    --stages_;
    in_flight_ -= rows_ >> stages_ * kRowBits & ((1 << kRowBits) - 1);
    const Ring stage = oldest_;
    oldest_.advance();
    return stage;
  }

  // Ends this thread: a wait was given up, and nothing more is to be copied.
  __device__ void leave() const {
    outlast_stages();
    asm volatile("exit;");
  }

  Ring ring_, oldest_;
  const volatile int* limit_;
  int warp_, lane_;
  int in_flight_ = 0;  // rows, of the newest stages_ stages; rows_ has the rows of each, the newest lowest
  int stages_ = 0;
  uint32_t data_;  // where the stages are in shared memory
  uint64_t rows_ = 0;
#if QWEN_VL_BULK_COPY
  uint64_t policy_;
#endif
};

// Stages of half tiles, in the order: group of tiles, chunk of columns, tile, half.
template <class Format>
__device__ void stream_product(Filler& filler, const Product& m, int ahead_columns) {
  static_assert(kGroupTiles == 2, "a group has a first and a second tile");
  constexpr bool kTogether = Format::kRows > 1;
  static_assert(!kTogether || kStageRows == Format::kRows, "where rows stand together a stage is one piece of memory");
  constexpr int kStageColumns = kChunk * Format::Share::kPieces;
  constexpr bool kLines = Format::kRows * Format::bytes_of(Format::kColumns) % (16 * kStreamWarps) != 0;
  const int own_row = kTogether ? 0 : filler.own_row();
  const size_t to_second_half = size_t(m.half_rows()) * m.row_bytes;
  const auto bytes_of = [](int columns) { return Format::kRows * static_cast<int>(Format::bytes_of(columns)); };
  for (int group = m.units.begin; group < m.units.end; group += m.group_units()) {
    const char* first_tile = m.row_data(group + own_row);
    const char* second_tile = m.row_data(group + m.tile_units() + own_row);
    for (int k0 = 0; k0 < m.columns; k0 += kStageColumns) {
      const int bytes = bytes_of(min(kStageColumns, m.columns - k0));
      const int ahead = bytes_of(min(ahead_columns, m.columns - k0));
#pragma unroll 1
      for (int i = 0; i < 2 * kGroupTiles; ++i) {
        const int rows = min(m.units.end - m.half_unit(group, i), kStageRows);
        const char* from = (i < 2 ? first_tile : second_tile) + (i % 2 ? to_second_half : 0) + bytes_of(k0);
        if (rows <= 0) continue;
        if (kTogether) {
          filler.template whole_stage<kLines>(from, bytes, ahead);
        } else {
          filler.rows(from, rows, bytes, ahead);
        }
      }
    }
  }
}

__device__ inline void stream_cache(Filler& filler, const Params& p, int layer, int stage_bytes, const int* lengths) {
  const QwenVlDecodeArgs& a = p.args;
  const int slots = stage_slots(stage_bytes, a.head_dim), values_at = slots * a.head_dim * 2;
  for (int unit = blockIdx.x; unit < a.batch * a.heads * p.splits; unit += gridDim.x) {
    const AttentionUnit u = attention_unit(unit, a.heads, p.splits, lengths);
    for (int slot = u.begin; slot < u.cached_end; slot += slots) {
      const size_t offset = cache_offset(a, layer, u.row, u.head, slot) * 2;
      filler.two(static_cast<const char*>(a.k_cache) + offset, static_cast<const char*>(a.v_cache) + offset,
                 min(slots, u.cached_end - slot) * a.head_dim * 2, values_at);
    }
  }
}

// Fetch small vectors that the computing warps will read soon into the L2 cache.
__device__ inline void prefetch_vector(const char* from, size_t bytes) {
  for (size_t i = (threadIdx.x - kComputeThreads) * 128; i < bytes; i += kStreamWarps * 32 * 128) prefetch_l2(from + i);
}

// The whole step in the order in which the computing warps take it. `lengths` are there after kBegunBarrier.
template <class Format>
__device__ void stream_step(const Params& p, const Ring& ring, const int* lengths, const volatile int* in_flight) {
  const QwenVlDecodeArgs& a = p.args;
  const size_t hidden_bytes = size_t(a.hidden) * 2;
  Filler filler(ring, in_flight);
#pragma unroll 1
  for (int n = 0; n < products_of(a); ++n) {
    const Product m = product_of<Format>(a, n);
    if (m.role == kQkv) {
      prefetch_vector(layer_of(a.ln_1_weight, m.layer, a.hidden), hidden_bytes);
      prefetch_vector(layer_of(a.qkv_bias, m.layer, size_t{3} * a.hidden), 3 * hidden_bytes);
      prefetch_vector(layer_of(a.ln_2_weight, m.layer, a.hidden), hidden_bytes);
    }
    if (m.role == kOut) {
      if (m.layer == 0) named_sync(kBegunBarrier, kThreads);
      stream_cache(filler, p, m.layer, ring.stage_bytes, lengths);
    }
    if (m.role == kHead) prefetch_vector(static_cast<const char*>(a.ln_f_weight), hidden_bytes);
    stream_product<Format>(filler, m, p.tuning.ahead_columns);
  }
}

}  // namespace qwen

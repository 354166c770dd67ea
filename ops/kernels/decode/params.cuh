// What the decode kernel is told, and how it lays out shared memory and the workspace.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ops/kernels/common/arguments.h"
#include "ops/kernels/decode/exchange.cuh"
#include "ops/kernels/decode/step.h"
#include "ops/kernels/decode/tuning.h"
#include "ops/kernels/sampling/best.cuh"

namespace qwen {

constexpr int kComputeThreads = kWarps * 32;
constexpr int kThreads = kComputeThreads + kStreamWarps * 32;
static_assert(kStreamWarps * kStreamRegisters + kWarps * kComputeRegisters <=
                  65536 / kThreads / 8 * 8 * (kThreads / 32),
              "no more than a kernel of kThreads is launched with");
constexpr int kComputeBarrier = 1, kBegunBarrier = 2;  // numbers of barriers among a block's warps
constexpr int kWarpRows = kStageRows / kStreamWarps;   // of a stage, each streaming warp copies
constexpr int kWarpColumns = kChunk / kWarps;          // of a stage, one warp multiplies
constexpr int kSteps = kWarpColumns / 32;              // and takes 32 at a time
constexpr int kWindowRowBytes = kChunk * 2 + kRowPadding;
// Rows of a stage have no padding between them: a bulk copy is up to 4 % slower where its bytes do not stand as far
// into 128 bytes of shared memory as into 128 of device memory, which costs more than the reads of a stage do.
template <class Format>
constexpr int kStageBytes = static_cast<int>(kStageRows * Format::bytes_of(Format::Share::kPieces * kChunk));
constexpr int kMaxHeadDim = 256;

static_assert(kWarpColumns % 32 == 0, "every warp takes whole 32-column steps of a chunk");

__host__ __device__ inline size_t align_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Bytes between two rows of activations in shared memory.
__host__ __device__ inline int activation_stride(int columns) {
  return static_cast<int>(align_up(columns * 2, 128)) + kRowPadding;
}

// Bytes that the attention works in: a partial result per warp; the query, key and value of the step's token.
__host__ __device__ inline int attention_scratch(int head_dim) {
  return kWarps * (head_dim + 2) * static_cast<int>(sizeof(float)) + 8 * head_dim;
}

// Offsets in dynamic shared memory; the ring of stages is first.
struct SharedLayout {
  int activations, reduction, rotary, total;

  __host__ __device__ SharedLayout(int ring_bytes, int rows, int hidden, int head_dim) {
    const int whole = rows * activation_stride(hidden);
    const int window = kWindow * rows * kWindowRowBytes;
    int bytes = whole > window ? whole : window;
    if (attention_scratch(head_dim) > bytes) bytes = attention_scratch(head_dim);
    activations = ring_bytes;
    reduction = activations + static_cast<int>(align_up(bytes, 128));
    rotary = reduction + 2 * kWarps * kGroupTiles * kTileRows * rows * static_cast<int>(sizeof(float));
    total = rotary + rows * head_dim * static_cast<int>(sizeof(float));
  }
};

// `count` grows by one per block and barrier, over all launches; `base` is its value when a launch begins.
struct GridBarrierState {
  unsigned count;
  unsigned padding[31];
  unsigned base;
};

struct Params {
  QwenVlDecodeArgs args;
  Tuning tuning;
  int splits;  // of one row's context
  volatile uint64_t* given_up;  // (status.h)
  GridBarrierState* barrier;
  float* residual;         // [rows, hidden] exact, for the sums
  void* rounded;           // T [rows, hidden] the same, for the norms
  float* squares;          // [kMaxRows, blocks] a block's share of the residual's sum of squares
  Word* query;             // [rows, hidden] fp32, rotated and scaled
  Word* key;               // [rows, hidden] of this step's token, as the cache holds them
  Word* value;
  Word* part;              // [rows, heads, splits, head_dim] fp32, unnormalised attention
  Word* part_weight;       // [rows, heads, splits, 2] fp32, maximum and sum
  Word* attended;          // [rows, hidden / 2] two T each
  void* mlp;               // T [rows, mlp_width]
  Best* best;              // [blocks, kMaxRows]
};

// Places the arrays of `p` from `base` on; returns the bytes used. `base` may be null to size the workspace.
inline size_t place_workspace(Params& p, void* base, int blocks) {
  Slices slices(base);
  const size_t rows = kMaxRows, hidden = p.args.hidden;
  p.barrier = slices.take<GridBarrierState>(sizeof(GridBarrierState));
  p.residual = slices.take<float>(rows * hidden * sizeof(float));
  p.rounded = slices.take(rows * hidden * 2);
  p.squares = slices.take<float>(blocks * rows * sizeof(float));
  p.query = slices.take<Word>(rows * hidden * sizeof(Word));
  p.key = slices.take<Word>(rows * hidden * sizeof(Word));
  p.value = slices.take<Word>(rows * hidden * sizeof(Word));
  p.part = slices.take<Word>(rows * hidden * kMaxSplits * sizeof(Word));
  p.part_weight = slices.take<Word>(rows * p.args.heads * kMaxSplits * 2 * sizeof(Word));
  p.attended = slices.take<Word>(rows * hidden / 2 * sizeof(Word));
  p.mlp = slices.take(rows * p.args.mlp_width * 2);
  p.best = slices.take<Best>(blocks * rows * sizeof(Best));
  return slices.used();
}

// ---- How work is shared out: both the streaming warps and the computing warps follow these.

struct Range {
  int begin, end;
};

// This block's share of `units`; the blocks from `first` on take one unit more where they do not divide evenly.
__device__ inline Range share(int units, int first) {
  const int blocks = gridDim.x, place = (blockIdx.x + blocks - first) % blocks;
  const int each = units / blocks, more = units % blocks;
  const int begin = place * each + min(place, more);
  return {begin, begin + each + (place < more)};
}

// The matrix products of a layer in their order; the head follows the last layer.
enum Role { kQkv, kOut, kGateUp, kDown, kHead };

// One product of the step, as its tiles see it, and this block's share. If it is `paired`, a unit is two rows `span`
// apart (the halves of a rotary pair, or a gate and its up row) and a tile holds eight first rows and then their
// partners; otherwise a unit is a row. It is described at run time, so that one piece of code serves all products: the
// code of a layer has to stay in the instruction cache.
struct Product {
  Role role;
  int layer;
  const char* weight;
  int columns;
  int row_bytes;
  int span;
  bool paired;
  Range units;

  __device__ int tile_units() const { return paired ? kTileRows / 2 : kTileRows; }
  __device__ int group_units() const { return kGroupTiles * tile_units(); }
  __device__ int groups() const { return (units.end - units.begin + group_units() - 1) / group_units(); }
  // The first unit of the i-th half of a tile, counted from the group's begin.
  __device__ int half_unit(int group, int i) const { return group + (paired ? i / 2 : i) * kStageRows; }
  // Rows from a row in the first half of a tile to the one that stands at its place in the second.
  __device__ int half_rows() const { return paired ? span : kStageRows; }
  // A unit's first row; its partner is `span` further on.
  __device__ int first_row(int unit) const { return paired ? unit / span * (2 * span) + unit % span : unit; }
  // Where that begins.
  __device__ const char* row_data(int unit) const { return weight + size_t(first_row(unit)) * row_bytes; }
};

__device__ inline const char* layer_of(const void* stack, int layer, size_t values) {
  return static_cast<const char*>(stack) + layer * values * 2;
}

__device__ inline int products_of(const QwenVlDecodeArgs& a) { return 4 * a.layers + (a.hidden_out ? 0 : 1); }

__device__ inline int units_of(const QwenVlDecodeArgs& a, Role role) {
  return role == kQkv ? 3 * a.hidden / 2 : role == kGateUp ? a.mlp_width : role == kHead ? a.vocab : a.hidden;
}

// The step's n-th product, with weights in Format.
template <class Format>
__device__ Product product_of(const QwenVlDecodeArgs& a, int n) {
  Product m{};
  m.role = n == 4 * a.layers ? kHead : static_cast<Role>(n % 4);
  m.layer = n / 4;
  m.columns = m.role == kDown ? a.mlp_width : a.hidden;
  m.paired = m.role == kQkv || m.role == kGateUp;
  m.span = m.role == kQkv ? a.head_dim / 2 : a.mlp_width;
  const int units = units_of(a, m.role);
  const void* stack = m.role == kQkv      ? a.qkv_weight
                      : m.role == kOut    ? a.out_weight
                      : m.role == kGateUp ? a.gate_up_weight
                      : m.role == kDown   ? a.down_weight
                                          : a.lm_head_weight;
  m.row_bytes = static_cast<int>(Format::row_bytes(m.columns));
  const size_t rows = m.paired ? 2 * units : units, layer = m.role == kHead ? 0 : m.layer;
  m.weight = static_cast<const char*>(stack) + layer * rows * m.row_bytes;
  // Rows that stand together stay together. The blocks that take more than others follow on each other from product to
  // product, so that none gets ahead.
  constexpr int kTogether = Format::kRows;
  unsigned first = 0, before = 0;
  for (int role = kQkv; role <= kDown; ++role) {
    if (role == m.role) before = first;
    first += units_of(a, static_cast<Role>(role)) / kTogether % gridDim.x;
  }
  const Range own = share(units / kTogether, static_cast<int>((m.layer * first + before) % gridDim.x));
  m.units = {own.begin * kTogether, own.end * kTogether};
  return m;
}

// Part of one row's context for one head.
struct AttentionUnit {
  int row, head, split;
  int begin, end;  // slots
  int cached_end;  // a slot from here on is this step's own
};

// `length` is the row's context with the token of this step, 0 for a row that does not attend.
__device__ inline AttentionUnit attention_unit(int unit, int heads, int splits, const int* lengths) {
  AttentionUnit u;
  u.split = unit % splits;
  u.head = unit / splits % heads;
  u.row = unit / splits / heads;
  const int length = lengths[u.row];
  const int part = (length + splits - 1) / splits;
  u.begin = min(u.split * part, length);
  u.end = min(u.begin + part, length);
  u.cached_end = u.begin < u.end && u.end == length ? u.end - 1 : u.end;
  return u;
}

// Slots whose keys and values fill one stage: whole rounds of the computing warps, where that many fit.
__device__ inline int stage_slots(int stage_bytes, int head_dim) {
  const int slots = stage_bytes / (4 * head_dim), round = 4 * kWarps;
  return slots < round ? slots : slots / round * round;
}

__device__ inline size_t cache_offset(const QwenVlDecodeArgs& a, int layer, int row, int head, int slot) {
  return (((size_t(layer) * a.cache_batch + row) * a.heads + head) * a.cache_slots + slot) * a.head_dim;
}

}  // namespace qwen

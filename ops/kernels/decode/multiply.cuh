// Weights times activations on the tensor cores: weights come as stages of the ring, the columns are split over the
// warps, and each result is handed to an epilogue.
#pragma once

#include "ops/formats/row_scaled.h"
#include "ops/kernels/common/copies.cuh"
#include "ops/kernels/common/mma.cuh"
#include "ops/kernels/decode/block.cuh"
#include "ops/kernels/decode/ring.cuh"
#include "ops/kernels/decode/weights.cuh"

namespace qwen {

// The activations of one product: in shared memory as a whole or, where they are too wide for that, a window on them
// that each warp fills with the columns that it multiplies, kWindow chunks ahead.
class Input {
 public:
  // [rows, columns] that are at `activations` already.
  __device__ Input(char* activations, int columns, int rows)
      : activations_(activations), thread_(thread_index()), columns_(columns), rows_(rows),
        stride_(activation_stride(columns)) {}

  // [rows, columns] at `from` in device memory; they are read `passes` times from the first to the last column.
  __device__ void open_window(const void* from, int passes) {
    from_ = static_cast<const char*>(from);
    stride_ = kWindowRowBytes;
    passes_ = passes;
#pragma unroll 1
    for (int i = 0; i < kWindow; ++i) fetch(i);
  }

  // Where the first batch row has the columns of the next chunk, which begins at column k0.
  __device__ const char* chunk(int k0) {
    if (!from_) return activations_ + k0 * 2;
    copy_wait<kWindow - 1>();
    __syncwarp();
    return slot(taken_);
  }
  // Bytes from one batch row to the next.
  __device__ int stride() const { return stride_; }
  // After the last read of that chunk.
  __device__ void done() {
    if (!from_) return;
    __syncwarp();
    fetch(taken_++);
  }

 private:
  __device__ char* slot(int index) const { return activations_ + index % kWindow * rows_ * kWindowRowBytes; }

  // The next chunk goes to the slot of chunk `index`. Nothing is left in flight after the last pass.
  __device__ void fetch(int index) {
    const int warp = thread_ / 32;
#pragma unroll 1
    for (int i = thread_ & 31; passes_ > 0 && i < rows_ * kSteps * 4; i += 32) {
      const int row = i / (kSteps * 4), column = warp * kWarpColumns + i % (kSteps * 4) * 8;
      if (next_ + column < columns_) {
        copy_async(shared_address(slot(index) + row * kWindowRowBytes + column * 2),
                   from_ + (size_t(row) * columns_ + next_ + column) * 2);
      }
    }
    copy_commit();
    next_ += kChunk;
    if (next_ >= columns_) {
      next_ = 0;
      --passes_;
    }
  }

  char* activations_;
  const char* from_ = nullptr;  // null: the whole input is there
  int thread_, columns_, rows_, stride_;
  int passes_ = 0;
  int next_ = 0;   // column
  int taken_ = 0;  // chunks
};

// A tile's weights for one chunk of columns, in registers: two stages of the ring.
template <class Share>
struct WeightTile {
  Share half[2];

  // From the ring's next stages: tile `tile` of the group that begins at unit `group`, from column k0 on.
  __device__ void take(Ring& ring, const Product& m, int group, int tile, int k0) {
    const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
    const int count = min(kChunk * Share::kPieces, m.columns - k0);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (m.half_unit(group, 2 * tile + i) >= m.units.end) {
        if constexpr (!Share::kFinite) half[i].clear();  // (else what was there before stays)
        continue;
      }
      ring.wait_full();
      const char* from = ring.data() + lane / 4 * Share::kRowBytes;
      half[i].take(from, warp, lane, count);
      ring.release();
    }
  }
};

// What a group's first or next chunk needs of the weights. Taken ahead, it leaves the ring before it is needed, as soon
// as what was there has been multiplied, and so also while the block waits for the input of its next product: the
// registers are as good as four stages more in the ring.
template <class ShareType, bool TakeAhead>
struct Weights {
  using Share = ShareType;
  static constexpr bool kTakeAhead = TakeAhead;
  WeightTile<Share> tiles[kGroupTiles];

  __device__ Weights() {
    if constexpr (Share::kFinite) {
      for (WeightTile<Share>& tile : tiles) tile.half[0].clear(), tile.half[1].clear();
    }
  }

  __device__ void take(Ring& ring, const Product& m, int group, int k0) {
#pragma unroll
    for (int tile = 0; tile < kGroupTiles; ++tile) tiles[tile].take(ring, m, group, tile, k0);
  }

  // The first ones of `m`, if they are taken ahead; multiply comes next.
  __device__ void take_first(Ring& ring, const Product& m) {
    if (TakeAhead) take(ring, m, m.units.begin, 0);
  }
};

// A step of a tile's weights by its activations: the columns of one product, then of the other.
template <typename T, class Share>
__device__ __forceinline__ void multiply_step(const WeightTile<Share>& w, int s, uint4 b, float (&sums)[2][4]) {
  const uint4 low = w.half[0].step(s), high = w.half[1].step(s);
  multiply_add<T>(sums[0], {low.x, high.x, low.y, high.y}, b.x, b.y);
  multiply_add<T>(sums[1], {low.z, high.z, low.w, high.w}, b.z, b.w);
}

// The same of all tiles for the steps from `s` on whose columns share a scale: the sums of these are scaled in fp32,
// with 4 to 16 instructions a tile. To scale the operands instead would take 16 a row and round them.
template <typename T, class Share>
__device__ __forceinline__ void multiply_group(const WeightTile<Share> (&tiles)[kGroupTiles], int s, const uint4* b,
                                               float (&sums)[kGroupTiles][2][4]) {
  float part[kGroupTiles][2][4] = {};
#pragma unroll
  for (int i = 0; i < Share::kGroupSteps; ++i) {
#pragma unroll
    for (int tile = 0; tile < kGroupTiles; ++tile) multiply_step<T>(tiles[tile], s + i, b[i], part[tile]);
  }
#pragma unroll
  for (int tile = 0; tile < kGroupTiles; ++tile) {
    const float low = tiles[tile].half[0].scale(s), high = tiles[tile].half[1].scale(s);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums[tile][0][i] = fmaf(i < 2 ? low : high, part[tile][0][i] + part[tile][1][i], sums[tile][0][i]);
    }
  }
}

// Multiplies this block's share of `m` by the input and calls, on the thread that owns the result,
// epilogue.prepare(unit, row) early and epilogue.finish(unit, row, value, partner) with the sums; `partner` belongs to
// the unit's second row (paired). A thread's batch row is always thread % 8. `weights` has had its take_first.
template <typename T, class Weights, class Epilogue>
__device__ void multiply(Ring& ring, const Product& m, int rows, Input& input, Weights& weights, float* reduction,
                         Epilogue& epilogue) {
  using Share = typename Weights::Share;
  constexpr int kColumns = kChunk * Share::kPieces;
  constexpr bool kWhole = Share::kPieces > 1 || Share::kGroupSteps > 0;  // all tiles are taken before one is multiplied
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
  const int a_row = lane / 4;
  const int own_tile = thread / (kTileRows * kMaxRows), own_row = thread / kMaxRows % kTileRows;
  const int own_batch = thread % kMaxRows;
  const int buffer_size = kWarps * kGroupTiles * kTileRows * rows;
  int buffer = 0;
#pragma unroll 1
  for (int group = m.units.begin; group < m.units.end; group += m.group_units()) {
    const int own_unit = group + own_tile * m.tile_units() + own_row;
    const bool owner = own_unit < m.units.end && own_batch < rows && own_row < m.tile_units();
    float scale = Share::kUnscale, partner_scale = Share::kUnscale;
    if (owner) {
      epilogue.prepare(own_unit, own_batch);
      if constexpr (Share::kRowScales) {
        const int row = m.first_row(own_unit);
        scale = __ldg(row_scale(m.weight, row, m.columns));
        if (m.paired) partner_scale = __ldg(row_scale(m.weight, row + m.span, m.columns));
      }
    }

    float sums[kGroupTiles][2][4] = {};
#pragma unroll 1
    for (int k0 = 0; k0 < m.columns; k0 += kColumns) {
      if (!Weights::kTakeAhead && kWhole) weights.take(ring, m, group, k0);
#pragma unroll
      for (int piece = 0; piece < Share::kPieces; ++piece) {
        const int begin = k0 + piece * kChunk, count = min(kChunk, m.columns - begin);
        if (piece > 0 && count <= 0) break;
        const char* x = input.chunk(begin);
        uint4 b[kSteps];
#pragma unroll
        for (int s = 0; s < kSteps; ++s) b[s] = Share::activations(x, input.stride(), rows, warp, lane, s, count);
        input.done();
        if constexpr (Share::kGroupSteps > 0) {
#pragma unroll
          for (int s = 0; s < kSteps; s += Share::kGroupSteps) {
            multiply_group<T>(weights.tiles, piece * kSteps + s, b + s, sums);
          }
        } else {
#pragma unroll
          for (int tile = 0; tile < kGroupTiles; ++tile) {
            if (!Weights::kTakeAhead && !kWhole) weights.tiles[tile].take(ring, m, group, tile, k0);
#pragma unroll
            for (int s = 0; s < kSteps; ++s) {
              multiply_step<T>(weights.tiles[tile], piece * kSteps + s, b[s], sums[tile]);
            }
          }
        }
      }
      const bool last = k0 + kColumns >= m.columns;
      const int next_group = last ? group + m.group_units() : group;
      if (Weights::kTakeAhead && next_group < m.units.end) weights.take(ring, m, next_group, last ? 0 : k0 + kColumns);
    }

    float* partial = reduction + buffer * buffer_size;
#pragma unroll
    for (int tile = 0; tile < kGroupTiles; ++tile) {
      float* tile_sums = partial + (warp * kGroupTiles + tile) * kTileRows * rows;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = a_row + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        if (column < rows) tile_sums[row * rows + column] = sums[tile][0][i] + sums[tile][1][i];
      }
    }
    sync_compute();  // the two buffers alternate, so that one barrier a group is enough
    if (owner) {
      float value = 0, partner = 0;
      const float* parts = partial + (own_tile * kTileRows + own_row) * rows + own_batch;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        value += parts[i * kGroupTiles * kTileRows * rows];
        if (m.paired) partner += parts[(i * kGroupTiles * kTileRows + kStageRows) * rows];
      }
      epilogue.finish(own_unit, own_batch, value * scale, partner * partner_scale);
    }
    buffer ^= 1;
  }
}

}  // namespace qwen

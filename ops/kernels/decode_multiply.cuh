// Weights times activations on the tensor cores: weights come as stages of the ring, the columns are split over the
// warps, and each result is handed to an epilogue.
#pragma once

#include "common/decode_types.cuh"
#include "decode_block.cuh"
#include "decode_ring.cuh"

namespace decode {

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
    stride_ = kStageRowBytes;
    passes_ = passes;
#pragma unroll 1
    for (int i = 0; i < kWindow; ++i) fetch(i);
  }

  // Where this lane's batch row has the columns of the next chunk, which begins at column k0.
  __device__ const char* chunk(int k0) {
    const char* at = activations_ + k0 * 2;
    if (from_) {
      copy_wait<kWindow - 1>();
      __syncwarp();
      at = slot(taken_);
    }
    return at + min((thread_ & 31) / 4, rows_ - 1) * stride_;
  }
  // After the last read of that chunk.
  __device__ void done() {
    if (!from_) return;
    __syncwarp();
    fetch(taken_++);
  }

 private:
  __device__ char* slot(int index) const { return activations_ + index % kWindow * rows_ * kStageRowBytes; }

  // The next chunk goes to the slot of chunk `index`. Nothing is left in flight after the last pass.
  __device__ void fetch(int index) {
    const int warp = thread_ / 32;
#pragma unroll 1
    for (int i = thread_ & 31; passes_ > 0 && i < rows_ * kSteps * 4; i += 32) {
      const int row = i / (kSteps * 4), column = (warp + i / 4 % kSteps * kWarps) * 32 + i % 4 * 8;
      if (next_ + column < columns_) {
        copy16(slot(index) + row * kStageRowBytes + column * 2, from_ + (size_t(row) * columns_ + next_ + column) * 2);
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
struct Tile {
  uint4 half[2][kSteps];

  // From the ring's next stages: tile `tile` of the group that begins at unit `group`, from column k0 on.
  __device__ void take(Ring& ring, const Product& m, int group, int tile, int k0) {
    const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
    const int count = min(kChunk, m.columns - k0);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (m.half_unit(group, 2 * tile + i) >= m.units.end) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) half[i][s] = make_uint4(0, 0, 0, 0);
        continue;
      }
      ring.wait_full();
      const char* from = ring.data() + lane / 4 * kStageRowBytes;
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int column = (warp + s * kWarps) * 32 + lane % 4 * 8;
        half[i][s] = column < count ? *reinterpret_cast<const uint4*>(from + column * 2) : make_uint4(0, 0, 0, 0);
      }
      ring.release();
    }
  }
};

// What a group's first or next chunk needs of the weights. Taken ahead, it leaves the ring before it is needed, as soon
// as what was there has been multiplied, and so also while the block waits for the input of its next product: the
// registers are as good as four stages more in the ring.
template <bool TakeAhead>
struct Weights {
  Tile tiles[kGroupTiles];

  __device__ void take(Ring& ring, const Product& m, int group, int k0) {
#pragma unroll
    for (int tile = 0; tile < kGroupTiles; ++tile) tiles[tile].take(ring, m, group, tile, k0);
  }

  // The first ones of `m`, if they are taken ahead; multiply comes next.
  __device__ void take_first(Ring& ring, const Product& m) {
    if (TakeAhead) take(ring, m, m.units.begin, 0);
  }
};

// Multiplies this block's share of `m` by the input and calls, on the thread that owns the result,
// epilogue.prepare(unit, row) early and epilogue.finish(unit, row, value, partner) with the sums; `partner` belongs to
// the unit's second row (paired). A thread's batch row is always thread % 8. `weights` has had its take_first.
template <typename T, bool TakeAhead, class Epilogue>
__device__ void multiply(Ring& ring, const Product& m, int rows, Input& input, Weights<TakeAhead>& weights,
                         float* reduction, Epilogue& epilogue) {
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
  const int a_row = lane / 4, a_column = lane % 4 * 8;
  const int own_tile = thread / (kTileRows * kMaxRows), own_row = thread / kMaxRows % kTileRows;
  const int own_batch = thread % kMaxRows;
  const int buffer_size = kWarps * kGroupTiles * kTileRows * rows;
  int buffer = 0;
#pragma unroll 1
  for (int group = m.units.begin; group < m.units.end; group += m.group_units()) {
    const int own_unit = group + own_tile * m.tile_units() + own_row;
    const bool owner = own_unit < m.units.end && own_batch < rows && own_row < m.tile_units();
    if (owner) epilogue.prepare(own_unit, own_batch);

    float sums[kGroupTiles][2][4] = {};
#pragma unroll 1
    for (int k0 = 0; k0 < m.columns; k0 += kChunk) {
      const int count = min(kChunk, m.columns - k0);
      const char* x = input.chunk(k0);
      uint4 b[kSteps];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int column = (warp + s * kWarps) * 32 + a_column;
        b[s] = column < count ? *reinterpret_cast<const uint4*>(x + column * 2) : make_uint4(0, 0, 0, 0);
      }
      input.done();
      // The order of columns inside a product is free as long as both sides share it: a lane's eight neighbouring
      // columns stand where the instruction expects 2 + 2 columns of two products.
#pragma unroll
      for (int tile = 0; tile < kGroupTiles; ++tile) {
        if (!TakeAhead) weights.tiles[tile].take(ring, m, group, tile, k0);
        const uint4 (&w)[2][kSteps] = weights.tiles[tile].half;
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          multiply_add<T>(sums[tile][0], w[0][s].x, w[1][s].x, w[0][s].y, w[1][s].y, b[s].x, b[s].y);
          multiply_add<T>(sums[tile][1], w[0][s].z, w[1][s].z, w[0][s].w, w[1][s].w, b[s].z, b[s].w);
        }
      }
      const bool last = k0 + kChunk >= m.columns;
      const int next_group = last ? group + m.group_units() : group;
      if (TakeAhead && next_group < m.units.end) weights.take(ring, m, next_group, last ? 0 : k0 + kChunk);
    }

    float* partial = reduction + buffer * buffer_size;
#pragma unroll
    for (int tile = 0; tile < kGroupTiles; ++tile) {
      float* at = partial + (warp * kGroupTiles + tile) * kTileRows * rows;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = a_row + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        if (column < rows) at[row * rows + column] = sums[tile][0][i] + sums[tile][1][i];
      }
    }
    sync_compute();  // the two buffers alternate, so that one barrier a group is enough
    if (owner) {
      float value = 0, partner = 0;
      const float* at = partial + (own_tile * kTileRows + own_row) * rows + own_batch;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) {
        value += at[i * kGroupTiles * kTileRows * rows];
        if (m.paired) partner += at[(i * kGroupTiles * kTileRows + kStageRows) * rows];
      }
      epilogue.finish(own_unit, own_batch, value, partner);
    }
    buffer ^= 1;
  }
}

}  // namespace decode

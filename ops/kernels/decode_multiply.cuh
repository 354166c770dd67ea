// Weights times activations on the tensor cores: weights come as stages of the ring, the columns are split over the
// warps, and each result is handed to an epilogue.
#pragma once

#include "common/decode_types.cuh"
#include "decode_block.cuh"
#include "decode_ring.cuh"

namespace decode {

// Activations that are in shared memory as a whole.
class WholeInput {
 public:
  __device__ WholeInput(const char* from, int columns, int rows)
      : lane_row_(from + min((thread_index() & 31) / 4, rows - 1) * activation_stride(columns)) {}

  // Where this lane's batch row has the columns of the next chunk.
  __device__ const char* chunk(int k0) { return lane_row_ + k0 * 2; }
  __device__ void done() {}

 private:
  const char* lane_row_;
};

// Activations too wide for that: each warp fetches the columns that it multiplies, kWindow chunks ahead.
class WindowInput {
 public:
  // `passes`: how often the input is read from its first to its last column.
  __device__ WindowInput(char* window, const void* from, int columns, int rows, int passes)
      : window_(window), from_(static_cast<const char*>(from)), thread_(thread_index()), columns_(columns), rows_(rows),
        passes_(passes) {
    for (int i = 0; i < kWindow; ++i) fetch(i);
  }

  __device__ const char* chunk(int) {
    copy_wait<kWindow - 1>();
    __syncwarp();
    return slot(taken_) + min((thread_ & 31) / 4, rows_ - 1) * kStageRowBytes;
  }
  __device__ void done() {
    __syncwarp();
    fetch(taken_++);
  }

 private:
  __device__ char* slot(int index) const { return window_ + index % kWindow * rows_ * kStageRowBytes; }

  // The next chunk goes to the slot of chunk `index`. Nothing is left in flight after the last pass.
  __device__ void fetch(int index) {
    const int warp = thread_ / 32;
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

  char* window_;
  const char* from_;
  int thread_, columns_, rows_, passes_;
  int next_ = 0;   // column
  int taken_ = 0;  // chunks
};

// Multiplies this block's share of `m` by the input and calls, on the thread that owns the result,
// epilogue.prepare(unit, row) early and epilogue.finish(unit, row, value, partner) with the sums; `partner` belongs to
// the unit's second row (Paired). A thread's batch row is always thread % 8.
template <typename T, bool Paired, class Input, class Epilogue>
__device__ void multiply(Ring& ring, const Matrix<Paired>& m, int turn, int rows, Input& input, float* reduction,
                         Epilogue& epilogue) {
  constexpr int tile_units = Matrix<Paired>::kTileUnits;
  const int thread = thread_index(), warp = thread / 32, lane = thread & 31;
  const int a_row = lane / 4, a_column = lane % 4 * 8;
  const int own_tile = thread / (kTileRows * kMaxRows), own_row = thread / kMaxRows % kTileRows;
  const int own_batch = thread % kMaxRows;
  const int buffer_size = kWarps * kGroupTiles * kTileRows * rows;
  const Range range = share(m.units, turn);
  int buffer = 0;
  for (int group = range.begin; group < range.end; group += Matrix<Paired>::kGroupUnits) {
    const int own_unit = m.half_unit(group + own_tile * tile_units, own_row / kStageRows, own_row % kStageRows);
    const bool owner = own_unit < range.end && own_batch < rows && (!Paired || own_row < kStageRows);
    if (owner) epilogue.prepare(own_unit, own_batch);

    float sums[kGroupTiles][2][4] = {};
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
#pragma unroll
      for (int tile = 0; tile < kGroupTiles; ++tile) {
        uint4 w[2][kSteps];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (m.half_unit(group + tile * tile_units, half, 0) >= range.end) {
#pragma unroll
            for (int s = 0; s < kSteps; ++s) w[half][s] = make_uint4(0, 0, 0, 0);
            continue;
          }
          ring.wait_full();
          const char* from = ring.data() + a_row * kStageRowBytes;
#pragma unroll
          for (int s = 0; s < kSteps; ++s) {
            const int column = (warp + s * kWarps) * 32 + a_column;
            w[half][s] = column < count ? *reinterpret_cast<const uint4*>(from + column * 2) : make_uint4(0, 0, 0, 0);
          }
          ring.release();
        }
        // The order of columns inside a product is free as long as both sides share it: a lane's eight neighbouring
        // columns stand where the instruction expects 2 + 2 columns of two products.
#pragma unroll
        for (int s = 0; s < kSteps; ++s) {
          multiply_add<T>(sums[tile][0], w[0][s].x, w[1][s].x, w[0][s].y, w[1][s].y, b[s].x, b[s].y);
          multiply_add<T>(sums[tile][1], w[0][s].z, w[1][s].z, w[0][s].w, w[1][s].w, b[s].z, b[s].w);
        }
      }
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
        if (Paired) partner += at[(i * kGroupTiles * kTileRows + kStageRows) * rows];
      }
      epilogue.finish(own_unit, own_batch, value, partner);
    }
    buffer ^= 1;
  }
}

}  // namespace decode

// Synchronisation of the computing warps, inside a block and over the grid.
#pragma once

#include "ops/kernels/common/barriers.cuh"
#include "ops/kernels/decode/params.cuh"

namespace qwen {

// threadIdx.x anew: what is derived from it cannot be moved out of the loop over the layers, where the many phases
// together would run out of registers; a spilled load waits for memory one by one.
__device__ inline int thread_index() { return static_cast<int>(in_register(threadIdx.x)); }

__device__ inline void sync_compute() { named_sync(kComputeBarrier, kComputeThreads); }

// Small arrays that the computing threads share.
struct BlockState {
  float inverse_rms[kMaxRows];
  float query_scale[kMaxRows];
  volatile int in_flight;   // rows of stages that may be on their way
  int lengths[kMaxRows];    // context with this step's token; 0: the row is finished
  int positions[kMaxRows];
  float squares[kWarps][kMaxRows];
  Best best[kWarps][kMaxRows];
};

// Around the times in which blocks wait for each other's results.
__device__ inline void begin_exchange(BlockState& block, const Params& p) {
  if (threadIdx.x == 0) block.in_flight = p.tuning.in_exchange;
}
__device__ inline void end_exchange(BlockState& block, const Params& p) {
  if (threadIdx.x == 0) block.in_flight = p.tuning.in_flight;
}

// Sums over each batch row (thread % 8) in a fixed order; lanes 0-7 hold the warp's sums afterwards.
__device__ inline float sum_rows(float v) {
  v += __shfl_xor_sync(0xffffffffu, v, 8);
  return v + __shfl_xor_sync(0xffffffffu, v, 16);
}

__device__ inline Best best_rows(Best v) {
#pragma unroll
  for (int distance = 8; distance <= 16; distance *= 2) {
    v.take(__shfl_xor_sync(0xffffffffu, v.value, distance), __shfl_xor_sync(0xffffffffu, v.index, distance));
  }
  return v;
}

// All blocks of the grid meet; what the computing warps wrote to device memory before is visible to them after.
// The grid must be resident as a whole (cooperative launch).
class GridBarrier {
 public:
  __device__ explicit GridBarrier(GridBarrierState* state)
      : state_(state), first_(load_acquire(&state->base)), target_(first_) {}

  // Called by all computing threads; `last_words` runs in the first warp once all have come, before the others hear.
  template <typename F>
  __device__ void arrive(F last_words) {
    target_ += gridDim.x;
    test_delay();
    sync_compute();
    if (threadIdx.x < 32) {
      last_words();
      __syncwarp();
      if (threadIdx.x == 0) add_release(&state_->count, 1);
    }
  }

  __device__ void wait() const {
    if (threadIdx.x == 0) {
      wait_until(QWEN_VL_WAIT_GRID, [&] { return static_cast<int>(load_acquire(&state_->count) - target_) >= 0; });
    }
    sync_compute();
  }

  // Tags of the words of a layer; no other layer or launch has the same (a layer has barriers).
  __device__ unsigned tag(int layer) const { return first_ + 1 + layer; }

  // After the last barrier of a launch, by one thread of the grid.
  __device__ void leave_ready() const { state_->base = target_; }

 private:
  GridBarrierState* state_;
  unsigned first_, target_;
};

}  // namespace qwen

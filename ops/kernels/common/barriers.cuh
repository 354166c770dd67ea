// Barriers: those in shared memory, which go by their address there (mbarriers), and those of some warps of a block.
#pragma once

#include "ops/kernels/common/ptx.cuh"
#include "ops/kernels/common/waits.cuh"

#if __CUDACC_VER_MAJOR__ >= 12 && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define QWEN_VL_SM_90 1  // its instructions are there
#else
#define QWEN_VL_SM_90 0
#endif

namespace qwen {

// Until `arrived()`; false if the wait was given up.
template <class Arrived>
__device__ inline bool wait_until(QwenVlWait wait, Arrived arrived) {
  unsigned tries = 0;
  unsigned long long state = 0;
#pragma unroll 1
  while (!arrived()) {
    if (given_up().now) return false;
    if (++tries % kTriesToLook == 0) state = look(state, wait);
  }
  return true;
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals = 1) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes the initialised barriers visible to the copy engine.
__device__ __forceinline__ void barrier_init_fence() {
#if QWEN_VL_SM_90
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(barrier) : "memory");
}

// Whether the phase of this parity is over; may pause a little for it.
__device__ __forceinline__ bool barrier_try(uint32_t barrier, uint32_t parity) {
  uint32_t done;
#if QWEN_VL_SM_90
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done)
               : "r"(barrier), "r"(parity) : "memory");
#else
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done)
               : "r"(barrier), "r"(parity) : "memory");
#endif
  return done;
}
// The same without a pause.
__device__ __forceinline__ bool barrier_test(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done)
               : "r"(barrier), "r"(parity) : "memory");
  return done;
}

#if QWEN_VL_SM_90
// Arrives, and has the phase wait for so many bytes of copies.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Both waits below try once before they begin to count: what stands between the end of a phase and what waits for it
// decides how fast products with packed weights are, and a count before the first try costs 3 to 6 % of them on an H200
// (docs/lab/waits.md). Only tries count, so time in which the thread does not run is no wait.

// Of a thread that does nothing but fetch: until the phase of this parity is over, or for kTriesToFetch. Then the thread
// ends, and those that wait for what it would have fetched give up and say so.
__device__ __forceinline__ void barrier_wait_or_end(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{ .reg .pred done, spent; .reg .s32 left;"
      " mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra over_%=; mov.s32 left, %2;"
      " again_%=: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra over_%=;"
      " sub.s32 left, left, 1; setp.lt.s32 spent, left, 0; @spent exit; bra again_%=; over_%=: }" ::"r"(barrier),
      "r"(parity), "n"(kTriesToFetch) : "memory");
}

// Waits of a thread that others wait for in turn: they end when it has tried kTriesOfWaits times in all. What a launch
// does after that is lost, but it ends: the thread waits no more and goes on with what is there. It announces no more
// bytes then, since a barrier whose bytes have not come takes no further arrival.
class CountedWaits {
 public:
  // Until the phase of this parity is over.
  __device__ __forceinline__ void wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{ .reg .pred go, spent;"
                 " mbarrier.try_wait.parity.shared::cta.b64 go, [%1], %2; @go bra over_%=;"
                 " again_%=: sub.s32 %0, %0, 1; setp.lt.s32 spent, %0, 0;"
                 " mbarrier.try_wait.parity.shared::cta.b64 go, [%1], %2; or.pred go, go, spent;"
                 " @!go bra again_%=; over_%=: }" : "+r"(left_) : "r"(barrier), "r"(parity) : "memory");
  }
  __device__ __forceinline__ bool over() const { return left_ < 0; }

  // Before the thread ends: reports waits that have ended, and leaves time to what is on its way to this block's
  // memory.
  __device__ __forceinline__ void report(volatile uint64_t* words, QwenVlWait wait) const {
    if (!over()) return;
    words[wait] = qwen_vl_wait_report(blockIdx.x, threadIdx.x);
    outlast_copies();
  }

 private:
  int left_ = kTriesOfWaits;
};
#endif

// A place in the ring of stages and the parity of its barriers there.
template <int STAGES> struct RingPlace {
  int stage, parity;
  __device__ __forceinline__ explicit RingPlace(int turn) : stage(turn % STAGES), parity(turn / STAGES % 2) {}
  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

// A barrier of `threads` threads of the block; `id` 1 to 15.
__device__ __forceinline__ void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Counts these threads to such a barrier without waiting.
__device__ __forceinline__ void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace qwen

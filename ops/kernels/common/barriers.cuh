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

// A thread's waits for such barriers, which end when it has tried so many times in all: far more often than any launch
// needs. Only tries count, so time in which the thread does not run is no wait. What a launch does after that is lost,
// but it ends: the thread waits no more and goes on with what is there.
//
// Nothing but these few instructions stands between a barrier's phase and what waits for it, and no branch leaves the
// loop that fetches: looks at a clock or at a word in shared memory, or such a branch, cost 1 to 14 % of a product
// with packed weights on an H200 (docs/lab/waits.md).
class Waits {
 public:
  __device__ __forceinline__ explicit Waits(int tries) : left_(tries) {}

  // Until the phase of this parity is over.
  __device__ __forceinline__ void wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{ .reg .pred go, spent;"
                 " again_%=: sub.s32 %0, %0, 1; setp.lt.s32 spent, %0, 0;"
                 " mbarrier.try_wait.parity.shared::cta.b64 go, [%1], %2; or.pred go, go, spent;"
                 " @!go bra again_%=; }" : "+r"(left_) : "r"(barrier), "r"(parity) : "memory");
  }
  // Whether they have ended.
  __device__ __forceinline__ bool over() const { return left_ < 0; }

  // Where to announce bytes: `barrier`, or `spare` once waits have ended, as a barrier whose bytes have not come
  // takes no further arrival. Threads that fetch therefore give up before those that wait for what they fetch.
  __device__ __forceinline__ uint32_t announced_at(uint32_t barrier, uint32_t spare) const {
    return over() ? spare : barrier;
  }

  // Before the thread ends: reports waits that have ended, and leaves time to what is on its way to this block's
  // memory.
  __device__ __forceinline__ void report(volatile uint64_t* words, Wait purpose) const {
    if (!over()) return;
    words[static_cast<int>(purpose)] = qwen_vl_wait_report(blockIdx.x, threadIdx.x);
    outlast_copies();
  }

 private:
  int left_;
};
// A spare barrier takes any number of announcements; nobody waits for it.
__device__ __forceinline__ void barrier_init_spare(uint32_t barrier) { barrier_init(barrier, (1 << 20) - 1); }
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

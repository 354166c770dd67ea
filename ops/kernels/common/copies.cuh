// Asynchronous copies from device to shared memory: 16 bytes a thread (sm_80), or any length by the copy engine
// (sm_90).
#pragma once

#include "ops/kernels/common/barriers.cuh"

// QWEN_VL_CP_ASYNC selects the older copies on sm_90 too, so that they can be tested on a newer card.
#if __CUDACC_VER_MAJOR__ >= 12 && !defined(QWEN_VL_CP_ASYNC)
#define QWEN_VL_BULK_BUILD 1  // for the devices that have it; this is what the host can ask
#else
#define QWEN_VL_BULK_BUILD 0
#endif
#if QWEN_VL_BULK_BUILD && QWEN_VL_SM_90
#define QWEN_VL_BULK_COPY 1
#else
#define QWEN_VL_BULK_COPY 0
#endif

namespace qwen {

__device__ __forceinline__ void copy_async(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// Writes 16 zero bytes where `valid` is false (`from` must be a mapped address all the same).
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
// This thread's arrival on `barrier` happens once its copies so far are complete.
__device__ __forceinline__ void barrier_arrive_after_copies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

#if QWEN_VL_BULK_COPY
__device__ __forceinline__ uint64_t evict_first_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// Copies `bytes` (a multiple of 16); completes on `barrier`.
__device__ __forceinline__ void bulk_copy(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier,
                                          uint64_t policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1], %2, [%3], %4;" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier), "l"(policy) : "memory");
}
#endif

// Brings `bytes` (a multiple of 16) into L2, where there is such an instruction.
__device__ __forceinline__ void bulk_prefetch(const void* from, uint32_t bytes) {
#if QWEN_VL_BULK_COPY
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

}  // namespace qwen

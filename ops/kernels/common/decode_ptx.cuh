// The instructions the decode kernel is made of: barriers in shared memory, asynchronous copies, matrix products.
#pragma once

#include <stdint.h>

#include "ops/kernels/common/waits.cuh"

// The bulk copy engine exists from compute capability 9.0 on, its instructions from CUDA 12.0 on; DECODE_CP_ASYNC
// selects the older path there too, so that it can be tested on a newer card.
#if __CUDACC_VER_MAJOR__ >= 12 && !defined(DECODE_CP_ASYNC)
#define DECODE_BULK_BUILD 1  // for the devices that have it; this is what the host can ask
#else
#define DECODE_BULK_BUILD 0
#endif
#if DECODE_BULK_BUILD && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define DECODE_BULK_COPY 1
#else
#define DECODE_BULK_COPY 0
#endif

namespace decode {

using qwen::given_up;
using qwen::test_delay;
using qwen::Wait;

// Out of line: the code of many waits is better small.
__device__ __noinline__ inline unsigned long long look(unsigned long long state, Wait wait) {
  return qwen::look(state, [=] { qwen::give_up(wait); });
}

__device__ __noinline__ inline void outlast_copies() { qwen::outlast_copies(); }

// Until `arrived()`; false if the wait was given up.
template <class Arrived>
__device__ inline bool wait_until(Wait wait, Arrived arrived) {
  return qwen::wait_until(arrived, [] { return given_up().now; },
                          [=](unsigned long long state) { return look(state, wait); });
}

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// A value that is kept in a register from here on. An address in shared memory is otherwise made again wherever it is
// used, from a special register that takes long to read.
__device__ inline uint32_t kept(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Barriers in shared memory go by their address there.
__device__ inline void mbarrier_init(uint32_t bar, uint32_t count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}

__device__ inline void mbarrier_init_fence() {
#if DECODE_BULK_COPY
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ inline void mbarrier_arrive(uint32_t bar) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(bar) : "memory");
}

// Whether the phase of this parity is over; may pause a little for it.
__device__ inline bool mbarrier_try(uint32_t bar, uint32_t parity) {
  uint32_t done;
#if DECODE_BULK_COPY
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "r"(parity) : "memory");
#else
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "r"(parity) : "memory");
#endif
  return done;
}

// The same without a pause.
__device__ inline bool mbarrier_test(uint32_t bar, uint32_t parity) {
  uint32_t done;
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "r"(parity) : "memory");
  return done;
}

#if DECODE_BULK_COPY
__device__ inline void mbarrier_expect(uint32_t bar, uint32_t bytes) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }"
               ::"r"(bar), "r"(bytes) : "memory");
}

__device__ inline uint64_t evict_first_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Copy `bytes` (a multiple of 16) from global to shared memory; completes on `bar`.
__device__ inline void bulk_copy(uint32_t to, const void* from, uint32_t bytes, uint32_t bar, uint64_t policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
               "[%0], [%1], %2, [%3], %4;"
               ::"r"(to), "l"(from), "r"(bytes), "r"(bar), "l"(policy) : "memory");
}

// Bring `bytes` (a multiple of 16) into the L2 cache.
__device__ inline void bulk_prefetch(const void* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
#else
__device__ inline void bulk_prefetch(const void*, uint32_t) {}  // there is no such instruction

// This thread's arrival on `bar` happens once its copies so far are complete.
__device__ inline void mbarrier_arrive_after_copies(uint32_t bar) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar) : "memory");
}
#endif

__device__ inline void copy16(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void copy16(void* to, const void* from) { copy16(shared_address(to), from); }

__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int Pending>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

__device__ inline void prefetch_l2(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

__device__ inline unsigned load_acquire(const unsigned* p) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}

__device__ inline void add_release(unsigned* p, unsigned v) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}

// The registers of a thread from here on; called by all warps of a group of four, which first give up what others take.
// Elsewhere the threads share evenly what a kernel is launched with.
template <int Count>
__device__ inline void give_up_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}
template <int Count>
__device__ inline void take_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}

// Four 8 x 8 matrices of 16-bit values from shared memory, as operands of tensor-core products; a lane gives the
// address of one row, eight lanes a matrix.
__device__ inline uint4 load_matrices(uint32_t row) {
  uint4 r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(row) : "memory");
  return r;
}

template <int Id, int Threads>
__device__ inline void named_barrier() {
  asm volatile("bar.sync %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
}

// Without waiting for the others.
template <int Id, int Threads>
__device__ inline void named_barrier_arrive() {
  asm volatile("bar.arrive %0, %1;" ::"n"(Id), "n"(Threads) : "memory");
}

}  // namespace decode

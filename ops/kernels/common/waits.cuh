// Waits inside kernels for what other threads or copies do: none is to be without end, and one that were is given up
// and reported.
#pragma once

#include <stdint.h>

#include "ops/kernels/common/status.h"

namespace qwen {

// No wait of a correct kernel comes near these; a kernel takes milliseconds. Tests that make waits without end have
// less patience.
//
// Of a wait that looks at the clock: counted is time in which the waiting thread ran. It looks after kTriesToLook
// failed tries, and what passed between two looks counts for no more than kMostBetweenLooks, so that a pause of the
// whole grid (debugger, time slices, a virtual machine at rest) is no wait.
//
// Of a thread that counts its tries (barriers.cuh): kTriesOfWaits, and of a thread that only fetches kTriesToFetch. A
// failed try pauses for some 4 us on an H200, so that these are 17 and 4 s there; a card that did not pause would still
// wait for 20 ms and more, several times as long as the longest product takes. Who fetches ends first: nothing is on
// its way then when those that wait go on.
constexpr unsigned kMostBetweenLooks = 50000000u, kTriesToLook = 64;
#ifdef QWEN_VL_TEST_DELAYS
constexpr unsigned kPatienceNanoseconds = 200000000u;
constexpr int kTriesOfWaits = 1 << 17;
#else
constexpr unsigned kPatienceNanoseconds = 2000000000u;
constexpr int kTriesOfWaits = 1 << 22;
#endif
constexpr int kTriesToFetch = kTriesOfWaits / 4;

#ifdef __CUDACC__

// Of a block: whether one of its waits was given up, and where the host learns of it. From then on no wait of the block
// waits: the kernel runs to its end on what is there, meets others at the barriers as ever, and the host refuses its
// results.
struct GivenUp {
  volatile int now;
  volatile uint64_t* words;  // one for each kind of wait (status.h)
};
__device__ inline GivenUp& given_up() {
  __shared__ GivenUp block;
  return block;
}
// By one thread, before the block's first wait and a barrier.
__device__ inline void begin_waits(volatile uint64_t* words) {
  given_up().now = 0;
  given_up().words = words;
}

__device__ inline void give_up(QwenVlWait wait) {
  GivenUp& block = given_up();
  if (!block.now) block.words[wait] = qwen_vl_wait_report(blockIdx.x, threadIdx.x);
  block.now = 1;
}

__device__ inline unsigned nanoseconds() {
  unsigned t;
  asm volatile("mov.u32 %0, %globaltimer_lo;" : "=r"(t));
  return t;
}

// Called now and then while a wait goes on: `state` is the time of the look before (low half) and how long the wait has
// been (high half), 0 at first. Out of line: the code of many waits is better small.
__device__ __noinline__ inline unsigned long long look(unsigned long long state, QwenVlWait wait) {
  const unsigned now = nanoseconds() | 1;
  unsigned waited = static_cast<unsigned>(state >> 32);
  if (state != 0) waited += min(now - static_cast<unsigned>(state), kMostBetweenLooks);
  if (waited > kPatienceNanoseconds) give_up(wait);
  return static_cast<unsigned long long>(waited) << 32 | now;
}

// Until copies that this block has asked for have landed for certain: its shared memory must not go before. Only after
// a wait was given up, when nobody counts them.
__device__ __forceinline__ void outlast_copies() {
#pragma unroll 1
  for (int i = 0; i < 1000; ++i) __nanosleep(1000);
}

// In a build for tests (-DQWEN_VL_TEST_DELAYS) threads are late here now and then, by up to 8 us: what depends on who
// comes first shows.
__device__ inline void test_delay() {
#ifdef QWEN_VL_TEST_DELAYS
  unsigned clock;
  asm volatile("mov.u32 %0, %clock;" : "=r"(clock));
  const unsigned chance = (clock ^ blockIdx.x * 40503u ^ threadIdx.x / 32 * 9973u) * 2654435761u;
  if (chance >> 26 == 0) __nanosleep(chance >> 13 & 0x1fff);
#endif
}

// In such a build a kernel also loses a copy where the host has set the word after those of qwen_vl_wait_words: the
// wait for it has no end.
__device__ __forceinline__ bool test_loses(const volatile uint64_t* words) {
#ifdef QWEN_VL_TEST_DELAYS
  return words[QWEN_VL_WAITS] != 0;
#else
  return false;
#endif
}

#endif  // __CUDACC__

}  // namespace qwen

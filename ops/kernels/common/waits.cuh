// Waits inside kernels for what other threads do: none is to be without end, and one that were is given up and reported.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../status.h"

namespace qwen {

// For the error that names the wait.
enum class Wait {
    kStageToFill = QWEN_VL_WAIT_STAGE_TO_FILL,
    kCopies = QWEN_VL_WAIT_COPIES,
    kGrid = QWEN_VL_WAIT_GRID,
    kWords = QWEN_VL_WAIT_WORDS,
    kTileToFill = QWEN_VL_WAIT_TILE_TO_FILL,
    kTileToRead = QWEN_VL_WAIT_TILE_TO_READ,
};

// No wait of a correct kernel comes near the first; a kernel takes milliseconds. Counted is time in which the waiting
// thread ran: it looks at the clock now and then, and what passed between two looks counts for no more than the second,
// so that a pause of the whole grid (debugger, time slices, a virtual machine at rest) is no wait.
constexpr unsigned kPatienceNanoseconds = 2000000000u, kMostBetweenLooks = 50000000u, kTriesToLook = 64;

#ifdef __CUDACC__

// Of a block: which of its waits was given up, 0 while none was. From then on no wait of the block waits: the kernel runs
// to its end on what is there, meets others at the barriers as ever, and the host refuses its results.
__device__ inline volatile unsigned& given_up() {
    __shared__ unsigned code;
    return code;
}
__device__ __forceinline__ uint32_t given_up_address() {
    return static_cast<uint32_t>(__cvta_generic_to_shared(const_cast<unsigned*>(&given_up())));
}
__device__ constexpr unsigned given_up_code(Wait wait, unsigned thread) {
    return 1u << 31 | static_cast<unsigned>(wait) << 16 | thread;
}

// By one thread, before the block's first wait and a barrier.
__device__ inline void begin_waits() { given_up() = 0; }

// By any thread that has seen given_up(): the host learns of it (status.h). Copies that the block has asked for have
// landed for certain when it returns: shared memory must not go before, and nobody counts them any more.
__device__ __noinline__ inline void report_given_up(volatile uint64_t* words) {
    const unsigned code = given_up();
    words[code >> 16 & 0x7fff] = qwen_vl_wait_report(blockIdx.x, code & 0xffff);
#pragma unroll 1
    for (int i = 0; i < 1000; ++i) __nanosleep(1000);
}

__device__ inline unsigned nanoseconds() {
    unsigned t;
    asm volatile("mov.u32 %0, %globaltimer_lo;" : "=r"(t));
    return t;
}

// Called now and then while a wait goes on: `state` is the time of the look before (low half) and how long the wait has
// been (high half), 0 at first; kGivenUp: wait no more. Out of line: the code of many waits is better small.
constexpr unsigned long long kGivenUp = ~0ull;
__device__ __noinline__ inline unsigned long long look(unsigned long long state, Wait wait) {
    const unsigned now = nanoseconds() | 1;
    unsigned waited = static_cast<unsigned>(state >> 32);
    if (state != 0) waited += min(now - static_cast<unsigned>(state), kMostBetweenLooks);
    if (waited > kPatienceNanoseconds && !given_up()) given_up() = given_up_code(wait, threadIdx.x);
    if (given_up()) return kGivenUp;
    return static_cast<unsigned long long>(waited) << 32 | now;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define QWEN_VL_TRY_PHASE "mbarrier.try_wait.parity.shared.b64"  // may pause a little
#else
#define QWEN_VL_TRY_PHASE "mbarrier.test_wait.parity.shared.b64"
#endif
// Until the phase of this parity of a barrier in shared memory is over, or the wait is given up; given_up() tells which.
// One piece of assembly, since the compiler must not see the branches: it would not unroll the loops that wait here, and
// would keep registers for what is all but never done.
__device__ __forceinline__ void wait_for_phase(uint32_t barrier, uint32_t parity, Wait wait) {
    const uint32_t block = given_up_address();
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        ".reg .u32 before, now, waited;\n"
        QWEN_VL_TRY_PHASE " p, [%0], %1;\n"
        "@p bra over_%=;\n"
        "mov.u32 waited, 0;\n"
        "mov.u32 before, %%globaltimer_lo;\n"
        "again_%=:\n"
        QWEN_VL_TRY_PHASE " p, [%0], %1;\n"
        "@p bra over_%=;\n"
        "ld.volatile.shared.u32 now, [%2];\n"
        "setp.ne.u32 p, now, 0;\n"
        "@p bra over_%=;\n"
        "mov.u32 now, %%globaltimer_lo;\n"
        "sub.u32 before, now, before;\n"
        "min.u32 before, before, %3;\n"
        "add.u32 waited, waited, before;\n"
        "mov.u32 before, now;\n"
        "setp.le.u32 p, waited, %4;\n"
        "@p bra again_%=;\n"
        "mov.u32 now, %%tid.x;\n"
        "add.u32 now, now, %5;\n"
        "st.volatile.shared.u32 [%2], now;\n"
        "over_%=:\n"
        "}" ::"r"(barrier), "r"(parity), "r"(block), "n"(kMostBetweenLooks), "n"(kPatienceNanoseconds),
        "r"(given_up_code(wait, 0))
        : "memory");
}

// The same for waits that end when another thread of the block, which waits for the same or before, gives up its own.
// Less code, for the many places where data are read.
__device__ __forceinline__ void wait_with_others(uint32_t barrier, uint32_t parity) {
    const uint32_t block = given_up_address();
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        ".reg .u32 now;\n"
        "again_%=:\n"
        QWEN_VL_TRY_PHASE " p, [%0], %1;\n"
        "@p bra over_%=;\n"
        "ld.volatile.shared.u32 now, [%2];\n"
        "setp.eq.u32 p, now, 0;\n"
        "@p bra again_%=;\n"
        "over_%=:\n"
        "}" ::"r"(barrier), "r"(parity), "r"(block) : "memory");
}

// In a build for tests (-DQWEN_VL_TEST_FAULTS) threads of the decode step are late here now and then, by up to 8 us: what
// depends on who comes first shows. Products and attention lose a tile there (kLosesTiles), so that a wait has no end.
#ifdef QWEN_VL_TEST_FAULTS
constexpr bool kLosesTiles = true;
__device__ inline void test_delay() {
    unsigned clock;
    asm volatile("mov.u32 %0, %clock;" : "=r"(clock));
    const unsigned chance = (clock ^ blockIdx.x * 40503u ^ threadIdx.x / 32 * 9973u) * 2654435761u;
    if (chance >> 26 == 0) __nanosleep(chance >> 13 & 0x1fff);
}
#else
constexpr bool kLosesTiles = false;
__device__ inline void test_delay() {}
#endif

#endif  // __CUDACC__

}  // namespace qwen

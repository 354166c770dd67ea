// Status codes of every launcher: 0 is success, a positive code below 10000 is a cudaError_t. And waits that were given
// up, which show when the kernel has ended.
#pragma once

#include <stdint.h>

#include "ops/kernels/common/anywhere.h"

enum QwenVlStatus {
  QWEN_VL_OK = 0,
  QWEN_VL_BLAS_MISSING = 10001,  // the process has loaded no libcublasLt of CUDA 11, 12 or 13
  QWEN_VL_BLAS_REFUSED = 10002,  // cuBLASLt has no algorithm for a matrix product
  QWEN_VL_UNSUPPORTED = 10003,  // a shape or type that the kernels do not cover
  QWEN_VL_WORKSPACE_SMALL = 10004,  // less workspace than the *_workspace function asked for
  QWEN_VL_GAVE_UP = 10005,  // a kernel gave up a wait that had no end: its results are wrong
};

// Waits inside kernels, by what they are for, in the order in which one without end leads to the next.
enum QwenVlWait {
  QWEN_VL_WAIT_COPIES,  // fewer copies on their way
  QWEN_VL_WAIT_STAGE_TO_FILL,  // room in the ring of stages
  QWEN_VL_WAIT_STAGE_TO_READ,  // a stage's weights or cache slots
  QWEN_VL_WAIT_GRID,  // all blocks
  QWEN_VL_WAIT_WORDS,  // words of other blocks
  QWEN_VL_WAIT_TILES,  // tiles of a matrix product
  QWEN_VL_WAIT_KEYS,  // keys and values of attention
  QWEN_VL_WAITS,
};

// What a kernel reports of a wait that it gave up; never 0.
QWEN_VL_ANYWHERE uint64_t qwen_vl_wait_report(unsigned block, unsigned thread) {
  return static_cast<uint64_t>(1) << 63 | static_cast<uint64_t>(block) << 16 | (thread & 0xffffu);
}

extern "C" {
// Of QWEN_VL_GAVE_UP: the wait that qwen_vl_gave_up found last in this thread.
const char* qwen_vl_status_text(int status);

// Where kernels report waits that they gave up, a word for each kind, for host and devices alike; null without a
// device. The first call allocates and must not be within a capture. One word more is for tests (test_loses in
// waits.cuh).
volatile uint64_t* qwen_vl_wait_words();

// QWEN_VL_GAVE_UP if a kernel has reported since the last call, else QWEN_VL_OK. Costs no more than a look at memory;
// a kernel that still runs has not reported yet.
int qwen_vl_gave_up();
}

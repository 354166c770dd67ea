#include "ops/kernels/common/status.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <new>

namespace {

thread_local char given_up[480] = "a kernel gave up waiting";

constexpr const char* kPurposes[QWEN_VL_WAITS] = {
    "copies on their way",          "room for weights in shared memory", "weights in shared memory",
    "all blocks of the grid",       "results of other blocks",           "tiles of a matrix product",
    "keys and values of attention",
};

}  // namespace

volatile uint64_t* qwen_vl_wait_words() {
  static volatile uint64_t* const words = []() -> uint64_t* {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, (QWEN_VL_WAITS + 1) * sizeof(uint64_t), cudaHostAllocPortable | cudaHostAllocMapped)) {
      cudaGetLastError();  // answered by the null pointer
      return nullptr;
    }
    return new (memory) uint64_t[QWEN_VL_WAITS + 1]();
  }();
  return words;
}

// One wait without end makes others of it: all kinds are named, in the order in which one leads to the next.
int qwen_vl_gave_up() {
  volatile uint64_t* const words = qwen_vl_wait_words();
  if (words == nullptr) return QWEN_VL_OK;
  int length = 0;
  for (int wait = 0; wait < QWEN_VL_WAITS; ++wait) {
    const uint64_t report = words[wait];
    if (report == 0) continue;
    words[wait] = 0;
    length +=
        std::snprintf(given_up + length, sizeof given_up - length, "%sblock %u, thread %u waited without end for %s",
                      length ? "; " : "", static_cast<unsigned>(report >> 16), static_cast<unsigned>(report & 0xffff),
                      kPurposes[wait]);
  }
  return length ? QWEN_VL_GAVE_UP : QWEN_VL_OK;
}

const char* qwen_vl_status_text(int status) {
  switch (status) {
    case QWEN_VL_OK: return "success";
    case QWEN_VL_BLAS_MISSING: return "the process has loaded no cuBLASLt of CUDA 11, 12 or 13";
    case QWEN_VL_BLAS_REFUSED: return "cuBLASLt has no algorithm for a matrix product";
    case QWEN_VL_UNSUPPORTED: return "the kernels do not cover this shape or type";
    case QWEN_VL_WORKSPACE_SMALL: return "the workspace is smaller than the size asked for";
    case QWEN_VL_GAVE_UP: return given_up;
    default: return cudaGetErrorString(static_cast<cudaError_t>(status));
  }
}

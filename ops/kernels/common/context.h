// What calls of the launchers share on one stream: the cuBLASLt handle and the memory that matrix products work in.
#pragma once

#include <cstddef>

#include "ops/kernels/common/stream.h"

struct QwenVlContext;

extern "C" {
// One context per stream of a device, for one host thread at a time. `workspace` is QWEN_VL_GEMM_WORKSPACE bytes of
// device memory, 256-byte aligned, which the caller keeps until the context is destroyed.
int qwen_vl_context_create(QwenVlContext** context, void* workspace);
void qwen_vl_context_destroy(QwenVlContext* context);
}

constexpr size_t QWEN_VL_GEMM_WORKSPACE = size_t(32) << 20;

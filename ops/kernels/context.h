// What calls of the launchers share on one device: the cuBLASLt handle and the algorithms chosen so far.
#pragma once

#include "common/stream.h"

struct QwenVlContext;

extern "C" {
// One context per device and host thread; it holds no device memory.
int qwen_vl_context_create(QwenVlContext** context);
void qwen_vl_context_destroy(QwenVlContext* context);
}

// The same attention with warpgroup matrix instructions (sm_90a).
#pragma once

#include <cuda_runtime_api.h>

#include "attention.h"

namespace qwen {

// False where this build or device has no such instructions; otherwise launches and sets `status`.
bool attention_hopper(const QwenVlAttention& arguments, cudaStream_t stream, int* status);

}  // namespace qwen

// The same attention with warpgroup matrix instructions (sm_90a).
#pragma once

#include <cuda_runtime_api.h>

#include "ops/kernels/attention/flash.h"

namespace qwen {

// With lengths, and without. False where this build or device has no such instructions; otherwise launches and sets
// `status`.
bool attention_causal_hopper(const QwenVlAttention& arguments, cudaStream_t stream, int* status);
bool attention_full_hopper(const QwenVlAttention& arguments, cudaStream_t stream, int* status);

}  // namespace qwen

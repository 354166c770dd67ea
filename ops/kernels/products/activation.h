// Activations of the two MLPs.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// x = x * Phi(x) in place (the erf GELU); `count` values, a multiple of 8.
int qwen_vl_gelu(void* x, long long count, int dtype, cudaStream_t stream);
// y[r] = silu(gate_up[r, :width]) * gate_up[r, width:]; gate_up [rows, 2 * width], width a multiple of 8.
int qwen_vl_silu_mul(const void* gate_up, void* y, long long rows, int width, int dtype, cudaStream_t stream);
}

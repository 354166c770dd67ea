// RMSNorm and LayerNorm over rows, with fp32 statistics.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// y[r] = x[r] / rms(x[r]), rounded to the type, times weight. `width` is a multiple of 8 up to 65536.
int qwen_vl_rms_norm(const void* x, const void* weight, void* y, long long rows, int width, float epsilon, int dtype,
                     cudaStream_t stream);
// y[r] = (x[r] - mean) / sqrt(var + epsilon) * weight + bias. In place (y == x) is allowed for both.
int qwen_vl_layer_norm(const void* x, const void* weight, const void* bias, void* y, long long rows, int width,
                       float epsilon, int dtype, cudaStream_t stream);
}

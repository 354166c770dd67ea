// The matrix product in kernels of our own for sm_90a, as alternatives to cuBLASLt's.
#pragma once

#include <cuda_runtime_api.h>

#include "ops/kernels/products/gemm.h"

namespace qwen {

constexpr int kHopperGemms = 9;  // tile shapes, at most

// Launches the product with one of the tile shapes and sets `status`; false where this shape, build or device cannot.
// Without `status` it launches nothing.
bool hopper_gemm(const QwenVlGemm& gemm, int shape, cudaStream_t stream, int* status);

}  // namespace qwen

extern "C" {
// One tile shape alone; QWEN_VL_UNSUPPORTED where it cannot.
int qwen_vl_gemm_hopper(const QwenVlGemm* gemm, int shape, cudaStream_t stream);

// The same for whole matrices, and the number of tile shapes, for who checks them one by one without this header.
int qwen_vl_gemm_tile(const void* weight, const void* x, void* y, const void* bias, const void* addend,
                      long long tokens, long long in, long long out, int dtype, int float_output, int activation,
                      int format, int shape, cudaStream_t stream);
int qwen_vl_gemm_tiles();
}

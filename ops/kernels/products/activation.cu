#include "ops/kernels/products/activation.h"

#include "ops/kernels/common/activations.cuh"
#include "ops/kernels/common/status.h"

namespace qwen {
namespace {

constexpr int kThreads = 256;

template <typename T> __global__ void gelu_kernel(T* x, long long vectors) {
  const long long first = static_cast<long long>(blockIdx.x) * 2 * kThreads + threadIdx.x;
  float v[2][kVector];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (first + i * kThreads < vectors) load_vector(x + (first + i * kThreads) * kVector, v[i]);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (first + i * kThreads >= vectors) return;
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[i][j] = gelu(v[i][j]);
    store_vector(x + (first + i * kThreads) * kVector, v[i]);
  }
}

template <typename T> __global__ void silu_mul_kernel(const T* __restrict__ gate_up, T* __restrict__ y, int width) {
  const int column = (blockIdx.y * kThreads + threadIdx.x) * kVector;
  if (column >= width) return;
  const long long row = blockIdx.x;
  const T* gate_row = gate_up + row * 2 * width;
  float gate[kVector], up[kVector];
  load_vector(gate_row + column, gate);
  load_vector(gate_row + width + column, up);
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    up[j] *= rounded<T>(silu(gate[j]));
  }
  store_vector(y + row * width + column, up);
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_gelu(void* x, long long count, int dtype, cudaStream_t stream) {
  using namespace qwen;
  if (count % kVector) return QWEN_VL_UNSUPPORTED;
  if (count == 0) return QWEN_VL_OK;
  const long long vectors = count / kVector;
  return with_dtype(dtype, [&](auto type) {
    using T = decltype(type);
    gelu_kernel<T><<<ceil_div(vectors, 2 * kThreads), kThreads, 0, stream>>>(static_cast<T*>(x), vectors);
    return static_cast<int>(cudaGetLastError());
  });
}

extern "C" int qwen_vl_silu_mul(const void* gate_up, void* y, long long rows, int width, int dtype,
                                cudaStream_t stream) {
  using namespace qwen;
  if (width % kVector) return QWEN_VL_UNSUPPORTED;
  if (rows == 0) return QWEN_VL_OK;
  const dim3 grid(static_cast<unsigned>(rows), ceil_div(width / kVector, kThreads));
  return with_dtype(dtype, [&](auto type) {
    using T = decltype(type);
    silu_mul_kernel<T><<<grid, kThreads, 0, stream>>>(static_cast<const T*>(gate_up), static_cast<T*>(y), width);
    return static_cast<int>(cudaGetLastError());
  });
}

#include "ops/kernels/common/norm.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

// One block a row; each thread keeps its CHUNKS vectors in registers between the statistics and the output. Mean and
// variance come from one reduction, taken about the row's first value so that a large mean costs no precision.
template <typename T, int CHUNKS, bool CENTRED>
__global__ void norm_kernel(const T* x, const T* __restrict__ weight, const T* __restrict__ bias, T* y, int width,
                            float epsilon) {
  __shared__ float2 shared[32];
  const int chunks = width / kVector;
  const long long row = static_cast<long long>(blockIdx.x) * width;
  const float origin = CENTRED ? to_float(x[row]) : 0.f;
  float values[CHUNKS][kVector];
  float2 sum = make_float2(0.f, 0.f);
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * blockDim.x + threadIdx.x;
    if (chunk >= chunks) continue;
    load_vector(x + row + chunk * kVector, values[c]);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      values[c][i] -= origin;
      sum.x += values[c][i];
      sum.y = fmaf(values[c][i], values[c][i], sum.y);
    }
  }
  sum = block_sum(sum, shared);
  const float mean = CENTRED ? sum.x / width : 0.f;
  const float scale = rsqrtf(fmaxf(sum.y / width - mean * mean, 0.f) + epsilon);
#pragma unroll
  for (int c = 0; c < CHUNKS; ++c) {
    const int chunk = c * blockDim.x + threadIdx.x;
    if (chunk >= chunks) continue;
    float w[kVector], b[kVector];
    load_vector(weight + chunk * kVector, w);
    if (CENTRED) load_vector(bias + chunk * kVector, b);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float normed = (values[c][i] - mean) * scale;
      values[c][i] = CENTRED ? normed * w[i] + b[i] : rounded<T>(normed) * w[i];
    }
    store_vector(y + row + chunk * kVector, values[c]);
  }
}

template <typename T, bool CENTRED>
int launch(const void* x, const void* weight, const void* bias, void* y, long long rows, int width, float epsilon,
           cudaStream_t stream) {
  if (width % kVector || width > 65536) return QWEN_VL_UNSUPPORTED;
  if (rows == 0) return QWEN_VL_OK;
  const int chunks = width / kVector;
  auto run = [&](auto kernel, int per_thread) {
    const int threads = ceil_div(ceil_div(chunks, per_thread), 32) * 32;
    kernel<<<static_cast<unsigned>(rows), threads, 0, stream>>>(static_cast<const T*>(x), static_cast<const T*>(weight),
                                                                static_cast<const T*>(bias), static_cast<T*>(y), width,
                                                                epsilon);
  };
  if (chunks <= 512) run(norm_kernel<T, 1, CENTRED>, 1);
  else if (chunks <= 2048) run(norm_kernel<T, 2, CENTRED>, 2);
  else run(norm_kernel<T, 8, CENTRED>, 8);
  return cudaGetLastError();
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_rms_norm(const void* x, const void* weight, void* y, long long rows, int width, float epsilon,
                                int dtype, cudaStream_t stream) {
  return qwen::with_dtype(dtype, [&](auto type) {
    return qwen::launch<decltype(type), false>(x, weight, nullptr, y, rows, width, epsilon, stream);
  });
}

extern "C" int qwen_vl_layer_norm(const void* x, const void* weight, const void* bias, void* y, long long rows,
                                  int width, float epsilon, int dtype, cudaStream_t stream) {
  return qwen::with_dtype(dtype, [&](auto type) {
    return qwen::launch<decltype(type), true>(x, weight, bias, y, rows, width, epsilon, stream);
  });
}

#include "norm.h"

#include "ops/kernels/common/vector.cuh"

namespace stock {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ float rounded(float x) {
  return static_cast<float>(static_cast<T>(x));
}

// One block a row, any width. The variance is summed about the mean, so a large mean costs no precision.
template <typename T, bool CENTRED>
__global__ void norm_kernel(Norm norm) {
  __shared__ float2 sums[32], squares[32];
  const int width = norm.width;
  const T* const x = static_cast<const T*>(norm.x) + blockIdx.x * static_cast<int64_t>(width);
  const T *const weight = static_cast<const T*>(norm.weight), *const bias = static_cast<const T*>(norm.bias);
  T* const y = static_cast<T*>(norm.y) + blockIdx.x * static_cast<int64_t>(width);

  float mean = 0.f;
  if (CENTRED) {
    float2 sum = make_float2(0.f, 0.f);
    for (int i = threadIdx.x; i < width; i += kThreads) sum.x += static_cast<float>(x[i]);
    mean = qwen::block_sum(sum, sums).x / width;
  }
  float2 square = make_float2(0.f, 0.f);
  for (int i = threadIdx.x; i < width; i += kThreads) {
    const float value = static_cast<float>(x[i]) - mean;
    square.x = fmaf(value, value, square.x);
  }
  const float scale = 1.f / sqrtf(qwen::block_sum(square, squares).x / width + norm.epsilon);
  for (int i = threadIdx.x; i < width; i += kThreads) {
    const float normed = (static_cast<float>(x[i]) - mean) * scale, w = static_cast<float>(weight[i]);
    y[i] = static_cast<T>(CENTRED ? normed * w + static_cast<float>(bias[i]) : rounded<T>(normed) * w);
  }
  if (threadIdx.x == 0) {
    norm.inverse_deviation[blockIdx.x] = scale;
    if (CENTRED) norm.mean[blockIdx.x] = mean;
  }
}

template <typename T>
int launch(const Norm& norm, cudaStream_t stream) {
  if (norm.rows == 0) return cudaSuccess;
  const auto kernel = norm.bias != nullptr ? norm_kernel<T, true> : norm_kernel<T, false>;
  kernel<<<static_cast<unsigned>(norm.rows), kThreads, 0, stream>>>(norm);
  return cudaGetLastError();
}

}  // namespace

int norm_cuda(const Norm& norm, NormType type, cudaStream_t stream) {
  switch (type) {
    case NormType::kFloat16: return launch<__half>(norm, stream);
    case NormType::kBfloat16: return launch<__nv_bfloat16>(norm, stream);
    default: return launch<float>(norm, stream);
  }
}

}  // namespace stock

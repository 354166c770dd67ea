#include "ops/kernels/vision/patches.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void patches_kernel(const float* __restrict__ pixels, T* __restrict__ rows, long long vectors, int side,
                               int patch, int columns) {
  const long long index = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= vectors) return;
  const int per_row = columns / kVector, grid = side / patch, area = patch * patch;
  const long long row = index / per_row;
  const int first = static_cast<int>(index % per_row) * kVector;
  const int in_image = static_cast<int>(row % (grid * grid));
  const float* image = pixels + row / (grid * grid) * 3 * side * side;
  const int top = in_image / grid * patch, left = in_image % grid * patch;
  float values[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const int column = first + i, channel = column / area, y = column % area / patch, x = column % patch;
    values[i] = channel < 3 ? image[(static_cast<long long>(channel) * side + top + y) * side + left + x] : 0.f;
  }
  store_vector(rows + index * kVector, values);
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_patches(const float* pixels, void* rows, int images, int side, int patch, int columns, int dtype,
                               cudaStream_t stream) {
  using namespace qwen;
  if (columns % kVector || side % patch || columns < 3 * patch * patch) return QWEN_VL_UNSUPPORTED;
  const long long grid = side / patch, vectors = images * grid * grid * (columns / kVector);
  if (vectors == 0) return QWEN_VL_OK;
  return with_dtype(dtype, [&](auto type) {
    using T = decltype(type);
    patches_kernel<T><<<ceil_div(vectors, kThreads), kThreads, 0, stream>>>(pixels, static_cast<T*>(rows), vectors,
                                                                            side, patch, columns);
    return static_cast<int>(cudaGetLastError());
  });
}

#include "ops/kernels/vision/resize.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

constexpr int kThreads = 256;
constexpr int kFraction = 22;  // bits behind the point of a weight

struct Colour {
  int channel[3];

  __device__ void add(const unsigned char* from, int weight) {
#pragma unroll
    for (int i = 0; i < 3; ++i) channel[i] += from[i] * weight;
  }
  // Rounded, and clipped to a byte: bicubic weights overshoot.
  __device__ int byte(int i) const { return min(max((channel[i] + (1 << (kFraction - 1))) >> kFraction, 0), 255); }
};

// Weighted sum of the pixels from `first` on, `step` bytes apart, that lie inside `count` pixels.
__device__ Colour gather(const unsigned char* line, const int* table, int taps, int count, size_t step) {
  Colour sum = {};
  const int first = table[0], inside = min(taps, count - first);
  for (int i = 0; i < inside; ++i) sum.add(line + (first + i) * step, table[1 + i]);
  return sum;
}

// One pass: rows of [height, width] get `size` pixels, or columns do. The last pass makes the result.
template <bool Rows, bool Last>
__global__ void pass(const QwenVlResize a, const unsigned char* from, unsigned char* to, int width, int height) {
  const int x = blockIdx.x * kThreads + threadIdx.x, y = blockIdx.y, columns = Rows ? a.size : width;
  if (x >= columns) return;
  const size_t line = static_cast<size_t>(width) * 3;
  const Colour sum =
      Rows ? gather(from + y * line, a.horizontal + x * (1 + a.horizontal_taps), a.horizontal_taps, width, 3)
           : gather(from + x * 3, a.vertical + y * (1 + a.vertical_taps), a.vertical_taps, height, line);
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    if (Last) a.pixels[(static_cast<size_t>(i) * a.size + y) * a.size + x] = a.values[i * 256 + sum.byte(i)];
    else to[(static_cast<size_t>(y) * columns + x) * 3 + i] = static_cast<unsigned char>(sum.byte(i));
  }
}

unsigned blocks(int threads) { return (threads + kThreads - 1) / kThreads; }

}  // namespace
}  // namespace qwen

extern "C" size_t qwen_vl_resize_workspace(const QwenVlResize* arguments) {
  const int unresized = arguments->columns_first ? arguments->width : arguments->height;
  return static_cast<size_t>(unresized) * arguments->size * 3;
}

extern "C" int qwen_vl_resize(QwenVlContext*, const QwenVlResize* arguments, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  using namespace qwen;
  const QwenVlResize& a = *arguments;
  if (workspace_bytes < qwen_vl_resize_workspace(arguments)) return QWEN_VL_WORKSPACE_SMALL;
  if (a.height <= 0 || a.height > 65535 || a.width <= 0 || a.size <= 0) return QWEN_VL_UNSUPPORTED;
  unsigned char* between = static_cast<unsigned char*>(workspace);
  if (a.columns_first) {
    pass<false, false><<<dim3(blocks(a.width), a.size), kThreads, 0, stream>>>(a, a.image, between, a.width, a.height);
    pass<true, true><<<dim3(blocks(a.size), a.size), kThreads, 0, stream>>>(a, between, nullptr, a.width, a.size);
  } else {
    pass<true, false><<<dim3(blocks(a.size), a.height), kThreads, 0, stream>>>(a, a.image, between, a.width, a.height);
    pass<false, true><<<dim3(blocks(a.size), a.size), kThreads, 0, stream>>>(a, between, nullptr, a.size, a.height);
  }
  return cudaGetLastError();
}

// What the attention kernels of sm_90a have in common: a warpgroup's 64 queries against one tile of keys and values.
#pragma once

#include <math_constants.h>

#include "ops/kernels/attention/flash.h"
#include "ops/kernels/common/tensor_map.cuh"
#include "ops/kernels/common/wgmma.cuh"

#if CUDART_VERSION >= 12000
namespace qwen {

// KEYS rows of keys or values in shared memory, in panels of 64 columns.
template <int D, int KEYS> struct Tile {
  static constexpr int kPanels = (D + 63) / 64;
  static constexpr int kPanelBytes = KEYS * 128;
  static constexpr int kBytes = kPanels * kPanelBytes;
  static constexpr int kSteps = (D + 15) / 16;  // 16-wide steps over the head dim; the last is filled with zeros
};

#if QWEN_VL_HAS_WGMMA
template <typename T, int D, int KEYS>
__device__ __forceinline__ void multiply_keys(float (&score)[KEYS / 8][4],
                                              const uint32_t (&query)[Tile<D, KEYS>::kSteps][4], uint32_t tile) {
  const uint64_t keys = tile_descriptor(tile, 16);
  wgmma_begin();
#pragma unroll
  for (int step = 0; step < Tile<D, KEYS>::kSteps; ++step)
    wgmma<T, KEYS, false>(score, query[step], keys + (step / 4 * Tile<D, KEYS>::kPanelBytes + step % 4 * 32) / 16,
                          step > 0);
  wgmma_commit();
}

template <typename T, int D, int KEYS>
__device__ __forceinline__ void multiply_values(float (&output)[D / 8][4], const uint32_t (&weights)[KEYS / 16][4],
                                                uint32_t tile) {
  const uint64_t values = tile_descriptor(tile, Tile<D, KEYS>::kPanelBytes);
  wgmma_begin();
#pragma unroll
  for (int step = 0; step < KEYS / 16; ++step)
    wgmma<T, D, true>(output, weights[step], values + step * (16 * 128 / 16), 1);
  wgmma_commit();
}

template <typename T, int KEYS>
__device__ __forceinline__ void pack_weights(uint32_t (&weights)[KEYS / 16][4], const float (&score)[KEYS / 8][4]) {
#pragma unroll
  for (int step = 0; step < KEYS / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[step][i] = pack_pair<T>(score[2 * step + i / 2][i % 2 * 2], score[2 * step + i / 2][i % 2 * 2 + 1]);
  }
}

// The softmax of two rows, `half` 0 and 1, over the tiles so far; four threads share a row.
struct RowSoftmax {
  float highest[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {0.f, 0.f};
  float shrink[2];  // the factor for what was accumulated before the last tile
  float scale;      // of exp2

  __device__ __forceinline__ explicit RowSoftmax(float exp_scale) : scale(exp_scale * 1.4426950408889634f) {}

  // `peak`: the highest score so far that this thread saw. Returns what exp2's argument is less by.
  __device__ __forceinline__ float raise(int half, float peak) {
    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
    const float level = peak == -CUDART_INF_F ? 0.f : peak;  // a row may see nothing of its last tile
    shrink[half] = exp2_approx((highest[half] - level) * scale);
    highest[half] = peak;
    return level * scale;
  }
  __device__ __forceinline__ void add(int half, float sum) { total[half] = total[half] * shrink[half] + sum; }
  template <int N> __device__ __forceinline__ void rescale(float (&output)[N][4]) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) output[n][i] *= shrink[i / 2];
    }
  }
  __device__ __forceinline__ float sum(int half) const {
    float sum = total[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    return sum;
  }
  static __device__ __forceinline__ float inverse(float sum) { return sum > 0.f ? 1.f / sum : 0.f; }
};
#endif

// Calls f with a value of the arguments' type and its head dim as an integral_constant; false where no kernel has it.
template <typename F> bool with_kernel_type(const QwenVlAttention& a, F f) {
  return with_dtype(a.dtype, [&](auto type) {
    if (a.head_dim == 64) return f(type, std::integral_constant<int, 64>{});
    if (a.head_dim == 104) return f(type, std::integral_constant<int, 104>{});
    if (a.head_dim == 128) return f(type, std::integral_constant<int, 128>{});
    return false;
  });
}

}  // namespace qwen
#endif

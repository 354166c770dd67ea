#include "ops/kernels/attention/flash.h"

#include <math_constants.h>

#include "ops/kernels/attention/hopper.cuh"
#include "ops/kernels/attention/tuning.h"
#include "ops/kernels/common/copies.cuh"
#include "ops/kernels/common/mma.cuh"
#include "ops/kernels/common/status.h"

namespace qwen {
namespace {

constexpr int kThreads = 32 * FlashTile::kWarps, kQueries = FlashTile::kQueries, kKeys = FlashTile::kKeys;

template <int D> struct Tile {
  static constexpr int kPadded = (D + 15) / 16 * 16;
  static constexpr int kStride = kPadded + 8;  // an odd count of 16-byte units: ldmatrix meets no bank twice
  static constexpr int kBytes = kKeys * kStride * 2;
};

// Rows first .. first + 63 of a matrix to shared memory, zeros from `end` on.
template <typename T, int D>
__device__ __forceinline__ void load_tile(uint32_t to, const T* from, long long stride, int first, int end) {
  constexpr int kChunks = D / kVector;
#pragma unroll
  for (int i = 0; i < (kKeys * kChunks + kThreads - 1) / kThreads; ++i) {
    const int index = i * kThreads + threadIdx.x;
    if (kKeys * kChunks % kThreads && index >= kKeys * kChunks) break;
    const int row = index / kChunks, column = index % kChunks * kVector;
    const bool valid = first + row < end;
    copy_async(to + (row * Tile<D>::kStride + column) * 2, from + (valid ? first + row : 0) * stride + column, valid);
  }
}

template <typename T, int D> __global__ void __launch_bounds__(kThreads) attention_kernel(const QwenVlAttention a) {
  extern __shared__ __align__(128) unsigned char memory[];
  constexpr int kSteps = Tile<D>::kPadded / 16, kColumns = D / 8, kStride = Tile<D>::kStride;
  const int group = blockIdx.z, head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const bool causal = a.lengths != nullptr;
  const int queries = causal ? a.lengths[group] : a.query_rows;
  const int first_query = (causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * kQueries;  // longest rows start first
  if (first_query >= queries) return;
  const int past = causal ? a.positions[group] : 0;
  const int last_query = min(first_query + kQueries, queries) - 1;
  const int keys = causal ? min(past + last_query + 1, a.key_rows) : a.key_rows;

  const T* q = static_cast<const T*>(a.q) + head * a.query_head +
               (causal ? a.offsets[group] * a.query_row : group * a.query_group);
  const T* k = static_cast<const T*>(a.k) + head * a.key_head + group * a.key_group;
  const T* v = static_cast<const T*>(a.v) + head * a.key_head + group * a.key_group;

  const uint32_t q_tile = shared_address(memory), k_tile = q_tile + Tile<D>::kBytes;
  const uint32_t v_tile = k_tile + Tile<D>::kBytes;
  if (D % 16) {  // the columns that fill the last 16-wide step stay zero
    for (int row = threadIdx.x; row < 2 * kKeys; row += kThreads)
      *reinterpret_cast<uint4*>(memory + (row * kStride + D) * 2) = make_uint4(0, 0, 0, 0);
  }
  load_tile<T, D>(q_tile, q, a.query_row, first_query, queries);
  load_tile<T, D>(k_tile, k, a.key_row, 0, keys);
  copy_commit();

  uint32_t query[kSteps][4];
  float output[kColumns][4] = {};
  float highest[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {0.f, 0.f};
  const float scale = a.scale * 1.4426950408889634f;  // exp2 instead of exp
  const bool active = first_query + warp * 16 < queries;
  const int row = first_query + warp * 16 + lane / 4;

  for (int first_key = 0; first_key < keys; first_key += kKeys) {
    copy_wait<0>();
    __syncthreads();
    load_tile<T, D>(v_tile, v, a.key_row, first_key, keys);
    copy_commit();
    float score[kKeys / 8][4] = {};
    if (active) {
      if (first_key == 0) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
          load_matrix_x4(query[step], q_tile + ((warp * 16 + lane % 16) * kStride + step * 16 + lane / 16 * 8) * 2);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int n = 0; n < kKeys / 16; ++n) {
          uint32_t b[4];
          load_matrix_x4(b,
                         k_tile + ((n * 16 + lane % 8 + lane / 16 * 8) * kStride + step * 16 + lane / 8 % 2 * 8) * 2);
          multiply_add<T>(score[2 * n], query[step], b[0], b[1]);
          multiply_add<T>(score[2 * n + 1], query[step], b[2], b[3]);
        }
      }
      if (first_key + kKeys > keys || (causal && first_key + kKeys - 1 > past + first_query)) {
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int key = first_key + n * 8 + lane % 4 * 2 + i % 2;
            if (key >= keys || (causal && key > past + row + i / 2 * 8)) score[n][i] = -CUDART_INF_F;
          }
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float peak = highest[half];
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) peak = fmaxf(peak, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
        peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
        peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
        const float shrink = exp2_approx((highest[half] - peak) * scale), offset = peak * scale;
        highest[half] = peak;
        float sum = 0.f;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            score[n][i] = exp2_approx(fmaf(score[n][i], scale, -offset));
            sum += score[n][i];
          }
        }
        total[half] = total[half] * shrink + sum;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          output[n][2 * half] *= shrink;
          output[n][2 * half + 1] *= shrink;
        }
      }
    }
    copy_wait<0>();
    __syncthreads();
    if (first_key + kKeys < keys) load_tile<T, D>(k_tile, k, a.key_row, first_key + kKeys, keys);
    copy_commit();
    if (active) {
#pragma unroll
      for (int step = 0; step < kKeys / 16; ++step) {
        const uint32_t weights[4] = {pack_pair<T>(score[2 * step][0], score[2 * step][1]),
                                     pack_pair<T>(score[2 * step][2], score[2 * step][3]),
                                     pack_pair<T>(score[2 * step + 1][0], score[2 * step + 1][1]),
                                     pack_pair<T>(score[2 * step + 1][2], score[2 * step + 1][3])};
        const uint32_t v_row = v_tile + (step * 16 + lane % 16) * kStride * 2;
#pragma unroll
        for (int n = 0; n < kColumns / 2; ++n) {
          uint32_t b[4];
          load_matrix_x4_trans(b, v_row + (n * 16 + lane / 16 * 8) * 2);
          multiply_add<T>(output[2 * n], weights, b[0], b[1]);
          multiply_add<T>(output[2 * n + 1], weights, b[2], b[3]);
        }
        if (kColumns % 2) {
          uint32_t b0, b1;
          load_matrix_x2_trans(b0, b1, v_row + (kColumns - 1) * 16);
          multiply_add<T>(output[kColumns - 1], weights, b0, b1);
        }
      }
    }
  }
  if (!active) return;

  T* out = static_cast<T*>(a.out) + head * a.out_head + (causal ? a.offsets[group] * a.out_row : group * a.out_group);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = total[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (row + half * 8 >= queries) continue;
    const float inverse = sum > 0.f ? 1.f / sum : 0.f;
    T* to = out + (row + half * 8) * a.out_row + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
      *reinterpret_cast<uint32_t*>(to + n * 8) =
          pack_pair<T>(output[n][2 * half] * inverse, output[n][2 * half + 1] * inverse);
  }
}

template <typename T, int D> int launch(const QwenVlAttention& a, cudaStream_t stream) {
  constexpr int kBytes = 3 * Tile<D>::kBytes;
  const cudaError_t error =
      cudaFuncSetAttribute(attention_kernel<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  attention_kernel<T, D><<<dim3(ceil_div(a.query_rows, kQueries), a.heads, a.groups), kThreads, kBytes, stream>>>(a);
  return cudaGetLastError();
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_attention(const QwenVlAttention* arguments, cudaStream_t stream) {
  const QwenVlAttention& a = *arguments;
  if (a.groups == 0 || a.query_rows == 0) return QWEN_VL_OK;
  if (a.groups > 65535 || a.heads > 65535) return QWEN_VL_UNSUPPORTED;
  int status;
  const auto hopper = a.lengths ? qwen::attention_causal_hopper : qwen::attention_full_hopper;
  if (hopper(a, stream, &status)) return status;
  return qwen::with_dtype(a.dtype, [&](auto type) -> int {
    using T = decltype(type);
    switch (a.head_dim) {
      case 64: return qwen::launch<T, 64>(a, stream);
      case 104: return qwen::launch<T, 104>(a, stream);
      case 128: return qwen::launch<T, 128>(a, stream);
      default: return QWEN_VL_UNSUPPORTED;
    }
  });
}

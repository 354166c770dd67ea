#include "ops/kernels/prefill/rope_cache.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxHalf = 128;

__global__ void rope_table_kernel(const int2* __restrict__ places, const int* __restrict__ positions,
                                  const float* __restrict__ inv_freq, float2* table, int half) {
  const int2 place = places[blockIdx.x];
  if (place.x < 0) return;
  float sine, cosine;
  sincosf((positions[place.x] + place.y) * inv_freq[place.x * half + threadIdx.x], &sine, &cosine);
  table[static_cast<long long>(blockIdx.x) * half + threadIdx.x] = make_float2(cosine, sine);
}

// blockIdx.y picks q, k or v. A work item is the two vectors of a head that rotate into each other.
template <typename T> __global__ void rope_cache_kernel(const QwenVlRopeCache a) {
  const int2 place = a.places[blockIdx.x];
  if (place.x < 0) return;
  const int slot = a.positions[place.x] + place.y, part = blockIdx.y;
  if (part > 0 && slot >= a.capacity) return;
  const float logn = part == 0 && a.logn_length && slot + 1 > a.logn_length
                         ? logf(slot + 1.f) / logf(static_cast<float>(a.logn_length))
                         : 1.f;
  const int half = a.head_dim / 2, per_head = half / kVector;
  const long long width = static_cast<long long>(a.heads) * a.head_dim;
  const float4* angles = reinterpret_cast<const float4*>(a.table + static_cast<long long>(blockIdx.x) * half);
  T* token = static_cast<T*>(a.qkv) + (blockIdx.x * 3ll + part) * width;
  T* cache = static_cast<T*>(part == 1 ? a.k_cache : a.v_cache);
  for (int item = threadIdx.x; item < a.heads * per_head; item += kThreads) {
    const int head = item / per_head, column = item % per_head * kVector;
    T* from = token + head * a.head_dim + column;
    float low[kVector], high[kVector];
    load_vector(from, low);
    load_vector(from + half, high);
    if (part < 2) {
#pragma unroll
      for (int i = 0; i < kVector; i += 2) {
        const float4 two = angles[(column + i) / 2];
        const float cosine[2] = {two.x, two.z}, sine[2] = {two.y, two.w};
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float x = low[i + j], y = high[i + j];
          low[i + j] = (x * cosine[j] - y * sine[j]) * logn;
          high[i + j] = (y * cosine[j] + x * sine[j]) * logn;
        }
      }
    }
    const long long cached = (static_cast<long long>(place.x) * a.heads + head) * a.capacity + slot;
    T* to = part == 0 ? from : cache + cached * a.head_dim + column;
    store_vector(to, low);
    store_vector(to + half, high);
  }
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_rope_table(const int2* places, const int* positions, const float* inv_freq, float2* table,
                                  int tokens, int half, cudaStream_t stream) {
  if (half > qwen::kMaxHalf) return QWEN_VL_UNSUPPORTED;
  if (tokens == 0) return QWEN_VL_OK;
  qwen::rope_table_kernel<<<tokens, half, 0, stream>>>(places, positions, inv_freq, table, half);
  return cudaGetLastError();
}

extern "C" int qwen_vl_rope_cache(const QwenVlRopeCache* arguments, cudaStream_t stream) {
  const QwenVlRopeCache& a = *arguments;
  if (a.head_dim % (2 * qwen::kVector) || a.head_dim > 2 * qwen::kMaxHalf) return QWEN_VL_UNSUPPORTED;
  if (a.tokens == 0) return QWEN_VL_OK;
  return qwen::with_dtype(a.dtype, [&](auto type) {
    qwen::rope_cache_kernel<decltype(type)><<<dim3(a.tokens, 3), qwen::kThreads, 0, stream>>>(a);
    return static_cast<int>(cudaGetLastError());
  });
}

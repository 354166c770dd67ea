// 16-byte vectors of half-precision values, their fp32 views, and type dispatch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "ops/kernels/common/arguments.h"

namespace qwen {

constexpr int kVector = 8;  // half-precision values in 16 bytes

__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ __half from_float<__half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <typename T> __device__ __forceinline__ float rounded(float x) { return to_float(from_float<T>(x)); }

template <typename T> struct Pair;
template <> struct Pair<__half> {
  using type = __half2;
  static __device__ __forceinline__ float2 unpack(type x) { return __half22float2(x); }
  static __device__ __forceinline__ type pack(float a, float b) { return __floats2half2_rn(a, b); }
};
template <> struct Pair<__nv_bfloat16> {
  using type = __nv_bfloat162;
  static __device__ __forceinline__ float2 unpack(type x) { return __bfloat1622float2(x); }
  static __device__ __forceinline__ type pack(float a, float b) { return __floats2bfloat162_rn(a, b); }
};

template <typename T> union Vector {
  uint4 raw;
  T values[kVector];

  __device__ __forceinline__ void unpack(float* out) const {
#pragma unroll
    for (int i = 0; i < kVector; ++i) out[i] = to_float(values[i]);
  }
  __device__ __forceinline__ void pack(const float* in) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[i] = from_float<T>(in[i]);
  }
};

template <typename T> __device__ __forceinline__ void load_vector(const T* from, float* out) {
  Vector<T> v;
  v.raw = *reinterpret_cast<const uint4*>(from);
  v.unpack(out);
}
template <typename T> __device__ __forceinline__ void store_vector(T* to, const float* in) {
  Vector<T> v;
  v.pack(in);
  *reinterpret_cast<uint4*>(to) = v.raw;
}

// 2^x with about 22 bits right; results below the normal range become zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

inline int ceil_div(long long a, long long b) { return static_cast<int>((a + b - 1) / b); }

// Calls f with a value of the device type that `dtype` names.
template <typename F> auto with_dtype(int dtype, F&& f) {
  return dtype == qwen::kFloat16 ? f(__half{}) : f(__nv_bfloat16{});
}

// Sums over the block, returned to every thread.
__device__ __forceinline__ float2 block_sum(float2 value, float2 (&shared)[32]) {
#pragma unroll
  for (int offset = 16; offset; offset >>= 1) {
    value.x += __shfl_xor_sync(0xffffffffu, value.x, offset);
    value.y += __shfl_xor_sync(0xffffffffu, value.y, offset);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float2 total = make_float2(0.f, 0.f);
  for (int i = 0; i < (blockDim.x + 31) / 32; ++i) {
    total.x += shared[i].x;
    total.y += shared[i].y;
  }
  return total;
}

}  // namespace qwen

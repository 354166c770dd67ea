// The MLPs' activations of one value, in fp32.
#pragma once

#include "ops/kernels/common/vector.cuh"

namespace qwen {

// x * Phi(x), where log2 of Phi(-|x|) is a polynomial, fitted on [0, 6] for a result with an error below 1e-6 (relative
// below 1e-5 for results beyond 1e-3): one special function where erfc's usual forms take two, of which there are a
// quarter as many units. Beyond 6, Phi(-|x|) is below 1e-9.
__device__ __forceinline__ float gelu(float x) {
  const float size = fminf(fabsf(x), 6.f);
  float log_tail = fmaf(size, 3.2267482e-5f, -7.4680225e-4f);
  log_tail = fmaf(log_tail, size, 7.9371380e-3f);
  log_tail = fmaf(log_tail, size, -5.3045318e-2f);
  log_tail = fmaf(log_tail, size, -4.5917293e-1f);
  log_tail = fmaf(log_tail, size, -1.1510370f);
  log_tail = fmaf(log_tail, size, -1.0000075f);
  return fmaf(-fabsf(x), exp2_approx(log_tail), fmaxf(x, 0.f));
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

}  // namespace qwen

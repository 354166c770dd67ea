// The MLPs' activations of one value, in fp32.
#pragma once

#include "vector.cuh"

namespace qwen {

// x * Phi(x) from erfc's rational approximation (Abramowitz and Stegun 7.1.26, error below 1.5e-7): less than half
// the instructions of erff, which would take longer than the memory traffic.
__device__ __forceinline__ float gelu(float x) {
    const float size = fabsf(x);
    const float t = reciprocal_approx(fmaf(size, 0.3275911f * 0.70710678118654752f, 1.f));
    float tail = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
    tail = fmaf(tail, t, 0.5f * 1.421413741f);
    tail = fmaf(tail, t, 0.5f * -0.284496736f);
    tail = fmaf(tail, t, 0.5f * 0.254829592f);
    tail *= t * exp2_approx(x * x * (-0.5f * 1.4426950408889634f));  // Phi(-|x|)
    return fmaf(-size, tail, fmaxf(x, 0.f));
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

}  // namespace qwen

#include "activation.h"

#include "common/vector.cuh"
#include "status.h"

namespace qwen {
namespace {

constexpr int kThreads = 256;

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

template <typename T> __global__ void gelu_kernel(T* x, long long vectors) {
    const long long first = static_cast<long long>(blockIdx.x) * 2 * kThreads + threadIdx.x;
    float v[2][kVector];
#pragma unroll
    for (int i = 0; i < 2; ++i)
        if (first + i * kThreads < vectors) load_vector(x + (first + i * kThreads) * kVector, v[i]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        if (first + i * kThreads >= vectors) return;
#pragma unroll
        for (int j = 0; j < kVector; ++j) v[i][j] = gelu(v[i][j]);
        store_vector(x + (first + i * kThreads) * kVector, v[i]);
    }
}

template <typename T> __global__ void silu_mul_kernel(const T* __restrict__ gate_up, T* __restrict__ y, int width) {
    const int column = (blockIdx.y * kThreads + threadIdx.x) * kVector;
    if (column >= width) return;
    const long long row = blockIdx.x;
    const T* gate_row = gate_up + row * 2 * width;
    float gate[kVector], up[kVector];
    load_vector(gate_row + column, gate);
    load_vector(gate_row + width + column, up);
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
        const float silu = __fdividef(gate[j], 1.f + __expf(-gate[j]));
        up[j] *= rounded<T>(silu);
    }
    store_vector(y + row * width + column, up);
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_gelu(void* x, long long count, int dtype, cudaStream_t stream) {
    using namespace qwen;
    if (count % kVector) return QWEN_VL_UNSUPPORTED;
    if (count == 0) return QWEN_VL_OK;
    const long long vectors = count / kVector;
    return with_dtype(dtype, [&](auto type) {
        using T = decltype(type);
        gelu_kernel<T><<<ceil_div(vectors, 2 * kThreads), kThreads, 0, stream>>>(static_cast<T*>(x), vectors);
        return static_cast<int>(cudaGetLastError());
    });
}

extern "C" int qwen_vl_silu_mul(const void* gate_up, void* y, long long rows, int width, int dtype,
                                cudaStream_t stream) {
    using namespace qwen;
    if (width % kVector) return QWEN_VL_UNSUPPORTED;
    if (rows == 0) return QWEN_VL_OK;
    const dim3 grid(static_cast<unsigned>(rows), ceil_div(width / kVector, kThreads));
    return with_dtype(dtype, [&](auto type) {
        using T = decltype(type);
        silu_mul_kernel<T><<<grid, kThreads, 0, stream>>>(static_cast<const T*>(gate_up), static_cast<T*>(y), width);
        return static_cast<int>(cudaGetLastError());
    });
}

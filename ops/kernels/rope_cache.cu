#include "rope_cache.h"

#include "common/vector.cuh"
#include "status.h"

namespace qwen {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxHalf = 128;

// One block a token. A work item is the two vectors of a head that rotate into each other.
template <typename T> __global__ void rope_cache_kernel(const QwenVlRopeCache a) {
    __shared__ float cosine[kMaxHalf], sine[kMaxHalf];
    const int2 place = a.places[blockIdx.x];
    if (place.x < 0) return;
    const int slot = a.positions[place.x] + place.y;
    const int half = a.head_dim / 2;
    for (int i = threadIdx.x; i < half; i += kThreads)
        sincosf(slot * a.inv_freq[place.x * half + i], &sine[i], &cosine[i]);
    __syncthreads();
    const float logn =
        a.logn_length && slot + 1 > a.logn_length ? logf(slot + 1.f) / logf(static_cast<float>(a.logn_length)) : 1.f;
    const bool stored = slot < a.capacity;
    const int per_head = half / kVector, items = a.heads * per_head;
    const long long width = static_cast<long long>(a.heads) * a.head_dim;
    T* token = static_cast<T*>(a.qkv) + blockIdx.x * 3 * width;
    for (int item = threadIdx.x; item < 3 * items; item += kThreads) {
        const int part = item / items, head = item % items / per_head, column = item % per_head * kVector;
        T* from = token + part * width + head * a.head_dim + column;
        const long long cached =
            ((static_cast<long long>(place.x) * a.heads + head) * a.capacity + slot) * a.head_dim + column;
        if (part == 2) {
            if (!stored) continue;
            T* to = static_cast<T*>(a.v_cache) + cached;
            *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
            *reinterpret_cast<uint4*>(to + half) = *reinterpret_cast<const uint4*>(from + half);
            continue;
        }
        float low[kVector], high[kVector];
        load_vector(from, low);
        load_vector(from + half, high);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
            const float c = cosine[column + i], s = sine[column + i], x = low[i], y = high[i];
            low[i] = x * c - y * s;
            high[i] = y * c + x * s;
            if (part == 0) {
                low[i] = rounded<T>(low[i]) * logn;
                high[i] = rounded<T>(high[i]) * logn;
            }
        }
        if (part == 1 && !stored) continue;
        T* to = part == 0 ? from : static_cast<T*>(a.k_cache) + cached;
        store_vector(to, low);
        store_vector(to + half, high);
    }
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_rope_cache(const QwenVlRopeCache* arguments, cudaStream_t stream) {
    const QwenVlRopeCache& a = *arguments;
    if (a.head_dim % (2 * qwen::kVector) || a.head_dim > 2 * qwen::kMaxHalf) return QWEN_VL_UNSUPPORTED;
    if (a.tokens == 0) return QWEN_VL_OK;
    return qwen::with_dtype(a.dtype, [&](auto type) {
        qwen::rope_cache_kernel<decltype(type)><<<a.tokens, qwen::kThreads, 0, stream>>>(a);
        return static_cast<int>(cudaGetLastError());
    });
}

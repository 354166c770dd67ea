#include "attention_hopper.cuh"

#include <math_constants.h>

#include "common/wgmma.cuh"
#include "status.h"

namespace qwen {
namespace {

template <int D, int KEYS> struct Tile {
    static constexpr int kSteps = (D + 15) / 16;  // 16-wide steps over the head dim; the last is filled with zeros
    static constexpr int kPanels = (D + 63) / 64;
    static constexpr int kPanelBytes = KEYS * 128;
    static constexpr int kBytes = kPanels * kPanelBytes;
};

// Copies tiles of KEYS rows into swizzled shared memory. A thread always copies the same 16-byte column, so that all
// its addresses are fixed distances apart: computing them row by row would take as many instructions as the softmax.
template <typename T, int D, int KEYS, int THREADS> struct TileLoader {
    static constexpr int kLanes = D > 64 ? 16 : 8, kRows = THREADS / kLanes;
    static_assert(kRows % 8 == 0 && KEYS % kRows == 0, "a thread's rows share their swizzle");
    const T* from;
    long long stride;
    uint32_t to;
    int row;
    bool used;

    __device__ __forceinline__ TileLoader(const T* matrix, long long row_stride, uint32_t tiles) : stride(row_stride) {
        const int chunk = threadIdx.x % kLanes;
        row = threadIdx.x / kLanes;
        used = chunk < D / kVector;
        from = matrix + row * stride + chunk * kVector;
        to = tiles + chunk / 8 * Tile<D, KEYS>::kPanelBytes + row * 128 + (chunk % 8 ^ row % 8) * 16;
    }
    // Rows first .. first + KEYS - 1 into the given buffer; with BOUNDED, zeros from row `end` on.
    template <bool BOUNDED> __device__ __forceinline__ void load(int buffer, int first, int end) const {
        if (!used) return;
        const uint32_t shared = to + buffer * Tile<D, KEYS>::kBytes;
        const T* global = from + first * stride;
#pragma unroll
        for (int i = 0; i < KEYS / kRows; ++i) {
            const bool valid = !BOUNDED || first + row + i * kRows < end;
            copy_async(shared + i * kRows * 128, valid ? global : from - row * stride, valid);
            global += kRows * stride;
        }
    }
};

// A warpgroup takes 64 queries; the WARPGROUPS of a block share the key and value tiles, which are double-buffered.
// The scores of the next tile are multiplied while this tile's values are still being accumulated. Tiles go from the
// last to the first, so that only the first one taken can be partly out of bounds, and the loop has no branch: ptxas
// would serialise the matrix instructions around one.
template <typename T, int D, int KEYS, int WARPGROUPS, bool CAUSAL>
__global__ void __launch_bounds__(QWEN_VL_HAS_WGMMA ? 128 * WARPGROUPS : 1) hopper_kernel(const QwenVlAttention a) {
#if QWEN_VL_HAS_WGMMA
    extern __shared__ __align__(1024) unsigned char memory[];
    using Shape = Tile<D, KEYS>;
    constexpr int kThreads = 128 * WARPGROUPS, kQueries = 64 * WARPGROUPS;
    const int group = blockIdx.z, head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int queries = CAUSAL ? a.lengths[group] : a.query_rows;
    const int first_query = (CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * kQueries;  // longest rows start first
    if (first_query >= queries) return;
    const int past = CAUSAL ? a.positions[group] : 0;
    const int last_query = min(first_query + kQueries, queries) - 1;
    const int keys = CAUSAL ? min(past + last_query + 1, a.key_rows) : a.key_rows;
    const int tiles = (keys + KEYS - 1) / KEYS;

    const long long query_base = CAUSAL ? a.offsets[group] * a.query_row : group * a.query_group;
    const T* q = static_cast<const T*>(a.q) + head * a.query_head + query_base;
    const T* k = static_cast<const T*>(a.k) + head * a.key_head + group * a.key_group;
    const T* v = static_cast<const T*>(a.v) + head * a.key_head + group * a.key_group;
    const uint32_t k_tiles = shared_address(memory), v_tiles = k_tiles + 2 * Shape::kBytes;

    const TileLoader<T, D, KEYS, kThreads> key_loader(k, a.key_row, k_tiles), value_loader(v, a.key_row, v_tiles);
    const int last = tiles - 1;
    key_loader.template load<true>(last % 2, last * KEYS, keys);
    copy_commit();
    value_loader.template load<true>(last % 2, last * KEYS, keys);
    if (last > 0) key_loader.template load<false>((last - 1) % 2, (last - 1) * KEYS, keys);
    copy_commit();

    if (D % 16) {  // the columns that fill the last step stay zero
        for (int i = threadIdx.x; i < 2 * KEYS; i += kThreads) {
            const int row = i % KEYS, chunk = D / kVector;
            *reinterpret_cast<uint4*>(memory + i / KEYS * Shape::kBytes + chunk / 8 * Shape::kPanelBytes + row * 128 +
                                      (chunk % 8 ^ row % 8) * 16) = make_uint4(0, 0, 0, 0);
        }
    }
    const int row = first_query + warp * 16 + lane / 4;
    uint32_t query[Shape::kSteps][4];
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = row + i % 2 * 8, column = step * 16 + i / 2 * 8 + lane % 4 * 2;
            query[step][i] = at < queries && column < D
                                 ? *reinterpret_cast<const uint32_t*>(q + at * a.query_row + column) : 0u;
        }
    }

    float output[D / 8][4] = {}, score[KEYS / 8][4];
    uint32_t weights[KEYS / 16][4];
    float highest[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {0.f, 0.f}, shrink[2];
    const float scale = a.scale * 1.4426950408889634f;  // exp2 instead of exp

    auto multiply_keys = [&](int tile) {
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < Shape::kSteps; ++step)
            wgmma<T, KEYS, false>(score, query[step],
                                  tile_descriptor(k_tiles + tile % 2 * Shape::kBytes +
                                                      step / 4 * Shape::kPanelBytes + step % 4 * 32, 16), step > 0);
        wgmma_commit();
    };
    auto multiply_values = [&](int tile) {
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step)
            wgmma<T, D, true>(output, weights[step],
                              tile_descriptor(v_tiles + tile % 2 * Shape::kBytes + step * 2048, Shape::kPanelBytes), 1);
        wgmma_commit();
    };
    auto mask = [&](int tile) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int key = tile * KEYS + n * 8 + lane % 4 * 2 + i % 2;
                if (key >= keys || (CAUSAL && key > past + row + i / 2 * 8)) score[n][i] = -CUDART_INF_F;
            }
        }
    };
    // Scores to unnormalised weights; leaves the factor for what was accumulated before in `shrink`.
    auto weigh = [&] {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float peaks[2] = {highest[half], highest[half]};
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 2; ++i) peaks[i] = fmaxf(peaks[i], score[n][2 * half + i]);
            }
            float peak = fmaxf(peaks[0], peaks[1]);
            peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
            peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
            const float level = peak == -CUDART_INF_F ? 0.f : peak;  // a row may see nothing of its last tile
            shrink[half] = exp2_approx((highest[half] - level) * scale);
            highest[half] = peak;
            const float offset = level * scale;
            float sums[2] = {0.f, 0.f};
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float& weight = score[n][2 * half + i];
                    weight = exp2_approx(fmaf(weight, scale, -offset));
                    sums[i] += weight;
                }
            }
            total[half] = total[half] * shrink[half] + (sums[0] + sums[1]);
        }
    };
    auto pack = [&] {
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                weights[step][i] =
                    pack_pair<T>(score[2 * step + i / 2][i % 2 * 2], score[2 * step + i / 2][i % 2 * 2 + 1]);
        }
    };

    copy_wait<1>();
    fence_copies();
    __syncthreads();
    multiply_keys(last);
    wgmma_wait<0>();
    wgmma_settle(score);
    mask(last);
    weigh();
    pack();
    for (int tile = last; tile > 0; --tile) {
        copy_wait<0>();
        fence_copies();
        __syncthreads();  // this tile's values and the next tile's keys are here; both other buffers are free
        value_loader.template load<false>((tile - 1) % 2, (tile - 1) * KEYS, keys);
        if (tile > 1) key_loader.template load<false>(tile % 2, (tile - 2) * KEYS, keys);
        copy_commit();
        multiply_keys(tile - 1);
        multiply_values(tile);
        wgmma_wait<1>();
        wgmma_settle(score);
        if (CAUSAL) mask(tile - 1);
        weigh();
        wgmma_wait<0>();
        wgmma_settle(output);
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) output[n][i] *= shrink[i / 2];
        }
        pack();
    }
    copy_wait<0>();
    fence_copies();
    __syncthreads();
    multiply_values(0);
    wgmma_wait<0>();
    wgmma_settle(output);

    T* out = static_cast<T*>(a.out) + head * a.out_head + (CAUSAL ? a.offsets[group] * a.out_row : group * a.out_group);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (row + half * 8 >= queries) continue;
        const float inverse = sum > 0.f ? 1.f / sum : 0.f;
        T* to = out + (row + half * 8) * a.out_row + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
            *reinterpret_cast<uint32_t*>(to + n * 8) =
                pack_pair<T>(output[n][2 * half] * inverse, output[n][2 * half + 1] * inverse);
    }
#endif
}

template <typename T, int D, int KEYS, int WARPGROUPS, bool CAUSAL>
bool launch(const QwenVlAttention& a, cudaStream_t stream, int* status) {
    constexpr int kBytes = 4 * Tile<D, KEYS>::kBytes, kThreads = 128 * WARPGROUPS;
    const auto kernel = hopper_kernel<T, D, KEYS, WARPGROUPS, CAUSAL>;
    // The code of a target without the instructions is bounded to one thread a block, which tells it apart here.
    static const bool usable = [&] {
        cudaFuncAttributes attributes;
        const bool found = cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess;
        if (!found) cudaGetLastError();
        return found && attributes.maxThreadsPerBlock >= kThreads &&
               cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) == cudaSuccess;
    }();
    if (!usable) return false;
    kernel<<<dim3(ceil_div(a.query_rows, 64 * WARPGROUPS), a.heads, a.groups), kThreads, kBytes, stream>>>(a);
    *status = cudaGetLastError();
    return true;
}

}  // namespace

bool attention_hopper(const QwenVlAttention& a, cudaStream_t stream, int* status) {
    return with_dtype(a.dtype, [&](auto type) {
        using T = decltype(type);
        // Short causal rows waste less in small tiles; the encoder's long rows share large ones.
        if (a.lengths) {
            if (a.head_dim == 64) return launch<T, 64, 64, 1, true>(a, stream, status);
            if (a.head_dim == 104) return launch<T, 104, 64, 1, true>(a, stream, status);
            if (a.head_dim == 128) return launch<T, 128, 64, 1, true>(a, stream, status);
        } else {
            if (a.head_dim == 64) return launch<T, 64, 128, 2, false>(a, stream, status);
            if (a.head_dim == 104) return launch<T, 104, 128, 2, false>(a, stream, status);
            if (a.head_dim == 128) return launch<T, 128, 128, 2, false>(a, stream, status);
        }
        return false;
    });
}

}  // namespace qwen

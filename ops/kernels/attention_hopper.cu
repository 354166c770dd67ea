#include "attention_hopper.cuh"

#include <math_constants.h>

#include "common/tensor_map.cuh"
#include "common/wgmma.cuh"
#include "status.h"

#if CUDART_VERSION >= 12000
namespace qwen {
namespace {

template <int D, int KEYS> struct Tile {
    static constexpr int kPanels = (D + 63) / 64;
    static constexpr int kPanelBytes = KEYS * 128;
    static constexpr int kBytes = kPanels * kPanelBytes;
};

// A warpgroup takes 64 queries; the WARPGROUPS of a block share the key and value tiles, which are double-buffered.
// The scores of the next tile are multiplied while this tile's values are still being accumulated. Tiles go from the
// last to the first, so that only the first one taken can be partly out of bounds, and the loop has no branch: ptxas
// would serialise the matrix instructions around one.
template <typename T, int D, int KEYS, int WARPGROUPS, bool CAUSAL>
__global__ void __launch_bounds__(QWEN_VL_HAS_WGMMA ? 128 * WARPGROUPS : 1)
    hopper_kernel(const QwenVlAttention a, const __grid_constant__ CUtensorMap k_map,
                  const __grid_constant__ CUtensorMap v_map) {
#if QWEN_VL_HAS_WGMMA
    extern __shared__ __align__(1024) unsigned char memory[];
    using Shape = Tile<D, KEYS>;
    constexpr int kThreads = 128 * WARPGROUPS, kQueries = 64 * WARPGROUPS;
    constexpr int kSteps = (D + 15) / 16;  // 16-wide steps over the head dim; the last is filled with zeros
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
    const uint32_t k_tiles = shared_address(memory), v_tiles = k_tiles + 2 * Shape::kBytes;
    const uint32_t k_barriers = v_tiles + 2 * Shape::kBytes, v_barriers = k_barriers + 16;

    const int last = tiles - 1;
    // Tile t lies in buffer t % 2, whose barrier then completes its phase (last - t) / 2.
    auto fetch = [&](const CUtensorMap& map, uint32_t buffers, uint32_t barriers, int tile) {
        const uint32_t to = buffers + tile % 2 * Shape::kBytes, barrier = barriers + tile % 2 * 8;
        barrier_expect(barrier, Shape::kBytes);
#pragma unroll
        for (int panel = 0; panel < Shape::kPanels; ++panel)
            fetch_box(to + panel * Shape::kPanelBytes, map, barrier, panel * 64, tile * KEYS, head, group);
    };
    auto wait = [&](uint32_t barriers, int tile) { barrier_wait(barriers + tile % 2 * 8, (last - tile) / 2 % 2); };
    if (threadIdx.x == 0) {
#pragma unroll
        for (int i = 0; i < 4; ++i) barrier_init(k_barriers + i * 8);
        barrier_init_fence();
        fetch(k_map, k_tiles, k_barriers, last);
        fetch(v_map, v_tiles, v_barriers, last);
        if (last > 0) fetch(k_map, k_tiles, k_barriers, last - 1);
    }

    const int row = first_query + warp * 16 + lane / 4;
    uint32_t query[kSteps][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = row + i % 2 * 8, column = step * 16 + i / 2 * 8 + lane % 4 * 2;
            query[step][i] = at < queries && column < D
                                 ? *reinterpret_cast<const uint32_t*>(q + at * a.query_row + column) : 0u;
        }
    }
    __syncthreads();

    float output[D / 8][4] = {}, score[KEYS / 8][4];
    uint32_t weights[KEYS / 16][4];
    float highest[2] = {-CUDART_INF_F, -CUDART_INF_F}, total[2] = {0.f, 0.f}, shrink[2];
    const float scale = a.scale * 1.4426950408889634f;  // exp2 instead of exp

    auto multiply_keys = [&](int tile) {
        const uint64_t keys_at = tile_descriptor(k_tiles + tile % 2 * Shape::kBytes, 16);
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
            wgmma<T, KEYS, false>(score, query[step],
                                  keys_at + (step / 4 * Shape::kPanelBytes + step % 4 * 32) / 16, step > 0);
        wgmma_commit();
    };
    auto multiply_values = [&](int tile) {
        const uint64_t values_at = tile_descriptor(v_tiles + tile % 2 * Shape::kBytes, Shape::kPanelBytes);
        wgmma_begin();
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step)
            wgmma<T, D, true>(output, weights[step], values_at + step * (16 * 128 / 16), 1);
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

    wait(k_barriers, last);
    multiply_keys(last);
    wgmma_wait<0>();
    wgmma_settle(score);
    mask(last);
    weigh();
    pack();
    if (CAUSAL && keys % KEYS) {  // cache slots that hold no token yet may hold NaNs, which a weight of 0 would keep
        wait(v_barriers, last);
        for (int i = threadIdx.x; i < (tiles * KEYS - keys) * 8 * Shape::kPanels; i += kThreads) {
            const int slot = keys % KEYS + i / (8 * Shape::kPanels), chunk = i % (8 * Shape::kPanels);
            *reinterpret_cast<uint4*>(memory + (2 + last % 2) * Shape::kBytes + chunk / 8 * Shape::kPanelBytes +
                                      slot * 128 + chunk % 8 * 16) = make_uint4(0, 0, 0, 0);
        }
        fence_stores();
    }
    for (int tile = last; tile > 0; --tile) {
        __syncthreads();  // the buffers of the values before and of the keys after the next tile's are free
        if (threadIdx.x == 0) {
            fetch(v_map, v_tiles, v_barriers, tile - 1);
            if (tile > 1) fetch(k_map, k_tiles, k_barriers, tile - 2);
        }
        wait(k_barriers, tile - 1);
        multiply_keys(tile - 1);
        wait(v_barriers, tile);
        multiply_values(tile);
        wgmma_wait<1>();
        wgmma_settle(score);
        if (CAUSAL) mask(tile - 1);
        weigh();
        wgmma_settle(score);  // the exponentials stay before the wait, beside the products in flight
        wgmma_wait<0>();
        wgmma_settle(output);
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) output[n][i] *= shrink[i / 2];
        }
        pack();
    }
    __syncthreads();
    wait(v_barriers, 0);
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
    constexpr int kBytes = 4 * Tile<D, KEYS>::kBytes + 32, kThreads = 128 * WARPGROUPS;
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
    CUtensorMap maps[2];
    for (int i = 0; i < 2; ++i)
        if (!make_tensor_map(&maps[i], std::is_same<T, __half>::value, i ? a.v : a.k, D, a.key_rows, a.key_row, a.heads,
                             a.key_head, a.groups, a.key_group, KEYS))
            return false;
    const dim3 grid(ceil_div(a.query_rows, 64 * WARPGROUPS), a.heads, a.groups);
    kernel<<<grid, kThreads, kBytes, stream>>>(a, maps[0], maps[1]);
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
#else
bool qwen::attention_hopper(const QwenVlAttention&, cudaStream_t, int*) { return false; }
#endif

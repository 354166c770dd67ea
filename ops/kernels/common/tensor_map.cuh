// Tiles fetched by the tensor memory accelerator of sm_90: the map made on the host, the copy and its barrier.
#pragma once

#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 12000
#include <cuda.h>

#include <cstdint>

#include "ops/kernels/common/waits.cuh"

namespace qwen {

// What a map has as one value: numbers, or eight bytes of whatever there is. A box has at most 256 in a row.
enum class MapValue { kFloat16, kBfloat16, kEightBytes };

// A map of a matrix with `rank` dimensions, the contiguous one first, fetched or stored in boxes whose shared-memory
// image is swizzled over `swizzle` = 64 or 128 bytes, the length of a box's rows; 0: it is not swizzled.
// Strides count values and belong to the dimensions after the first. What lies outside reads as zero and is not
// written. `promoted`: what is fetched comes into L2 in 256 bytes at once. False where the driver knows no such maps or
// refuses this one.
inline bool encode_tensor_map(CUtensorMap* map, MapValue value, const void* base, int rank, const long long* sizes,
                              const long long* strides, const int* box, int swizzle, bool promoted = true) {
    using Encode = decltype(&cuTensorMapEncodeTiled);
    static const Encode encode = [] {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
        return result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(found) : nullptr;
    }();
    if (!encode) return false;
    cuuint64_t extents[5], steps_bytes[4];
    cuuint32_t lengths[5], steps[5];
    for (int i = 0; i < rank; ++i) {
        extents[i] = cuuint64_t(sizes[i]);
        lengths[i] = cuuint32_t(box[i]);
        steps[i] = 1;
        if (i > 0) steps_bytes[i - 1] = cuuint64_t(strides[i - 1]) * (value == MapValue::kEightBytes ? 8 : 2);
    }
    const CUtensorMapDataType type = value == MapValue::kFloat16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                     : value == MapValue::kBfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                    : CU_TENSOR_MAP_DATA_TYPE_UINT64;
    return encode(map, type, rank, const_cast<void*>(base), extents, steps_bytes, lengths, steps,
                  CU_TENSOR_MAP_INTERLEAVE_NONE,
                  swizzle == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                  : swizzle == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                  : CU_TENSOR_MAP_SWIZZLE_NONE,
                  promoted ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B : CU_TENSOR_MAP_L2_PROMOTION_NONE,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// A map of a [groups, heads, rows, columns] matrix, strides in values, fetched in boxes of box_rows x 64 columns.
inline bool make_tensor_map(CUtensorMap* map, bool half, const void* base, int columns, long long rows, long long row,
                            int heads, long long head, int groups, long long group, int box_rows) {
    const long long sizes[4] = {columns, rows, heads, groups}, strides[3] = {row, head, groups > 1 ? group : row};
    const int box[4] = {64, box_rows, 1, 1};
    return encode_tensor_map(map, half ? MapValue::kFloat16 : MapValue::kBfloat16, base, 4, sizes, strides, box, 128);
}

// A place in the ring of stages and the parity of its barriers there.
template <int STAGES> struct RingPlace {
    int stage, parity;
    __device__ __forceinline__ explicit RingPlace(int turn) : stage(turn % STAGES), parity(turn / STAGES % 2) {}
    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// Has the map itself fetched, ahead of its first use.
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals = 1) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes the initialised barriers visible to the copies.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// A thread's waits for such barriers, which end when it has tried so many times in all: far more often than any launch
// needs. Only tries count, so time in which the thread does not run is no wait. What a launch does after that is lost,
// but it ends: the thread waits no more and goes on with what is there.
//
// Nothing but these few instructions stands between a barrier's phase and what waits for it, and no branch leaves the
// loop that fetches: looks at a clock or at a word in shared memory, or such a branch, cost 1 to 14 % of a product in
// E5M7 on an H200 (docs/lab/waits.md).
class Waits {
  public:
    __device__ __forceinline__ explicit Waits(int tries) : left_(tries) {}

    // Until the phase of this parity is over.
    __device__ __forceinline__ void wait(uint32_t barrier, uint32_t parity) {
        asm volatile("{ .reg .pred go, spent;"
                     " again_%=: sub.s32 %0, %0, 1; setp.lt.s32 spent, %0, 0;"
                     " mbarrier.try_wait.parity.shared::cta.b64 go, [%1], %2; or.pred go, go, spent;"
                     " @!go bra again_%=; }"
                     : "+r"(left_) : "r"(barrier), "r"(parity) : "memory");
    }
    // Whether they have ended.
    __device__ __forceinline__ bool over() const { return left_ < 0; }

    // Where to announce bytes: `barrier`, or `spare` once waits have ended, as a barrier whose bytes have not come takes
    // no further arrival. Threads that fetch therefore give up before those that wait for what they fetch.
    __device__ __forceinline__ uint32_t announced_at(uint32_t barrier, uint32_t spare) const {
        return over() ? spare : barrier;
    }

    // Before the thread ends: reports waits that have ended, and leaves time to what is on its way to this block's memory.
    __device__ __forceinline__ void report(volatile uint64_t* words, Wait purpose) const {
        if (!over()) return;
        words[static_cast<int>(purpose)] = qwen_vl_wait_report(blockIdx.x, threadIdx.x);
        outlast_copies();
    }

  private:
    int left_;
};
// A spare barrier takes any number of announcements; nobody waits for it.
__device__ __forceinline__ void barrier_init_spare(uint32_t barrier) { barrier_init(barrier, (1 << 20) - 1); }

__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          int head, int group) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];"
                 ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(head), "r"(group), "r"(barrier) : "memory");
}
#endif

}  // namespace qwen
#endif

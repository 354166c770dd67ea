// Thread-block clusters of sm_90: rank, barrier, other blocks' shared memory, copies to several blocks, bulk stores.
#pragma once

#include "ops/kernels/common/tensor_map.cuh"

#if CUDART_VERSION >= 12000 && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
namespace qwen {

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// The same for what a barrier_init_fence precedes, without a cluster-wide fence of its own.
__device__ __forceinline__ void cluster_start() {
    asm volatile("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
// A barrier of `threads` threads of the block; `id` 1 to 15.
__device__ __forceinline__ void named_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Counts these threads to such a barrier without waiting.
__device__ __forceinline__ void named_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void shared_store(uint32_t address, float4 v) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
}
// The address in block `rank` of what lies at `address` in this block.
__device__ __forceinline__ uint32_t cluster_address(uint32_t address, uint32_t rank) {
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
__device__ __forceinline__ float4 cluster_load(uint32_t there) {
    float4 v;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(there) : "memory");
    return v;
}
// Without a cluster-wide fence, which would cost a trip to L2: it announces that matrix instructions have read a stage,
// and they write nothing.
__device__ __forceinline__ void barrier_arrive_at(uint32_t there) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(there) : "memory");
}

// Boxes of two dimensions; with a mask they land at the same place in each block whose bit is set.
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(barrier) : "memory");
}
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3}], [%4], %5;"
                 ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(barrier), "h"(blocks) : "memory");
}
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          int head, int group, uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;"
                 ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(head), "r"(group), "r"(barrier), "h"(blocks)
                 : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap& map, uint32_t from, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n"
                 "cp.async.bulk.commit_group;"
                 ::"l"(&map), "r"(column), "r"(row), "r"(from) : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap& map, uint32_t from, int column, int row, int head,
                                          int group) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];\n"
                 "cp.async.bulk.commit_group;"
                 ::"l"(&map), "r"(column), "r"(row), "r"(head), "r"(group), "r"(from) : "memory");
}
// Until the stores of this thread have read their shared memory.
__device__ __forceinline__ void store_wait() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

}  // namespace qwen
#endif

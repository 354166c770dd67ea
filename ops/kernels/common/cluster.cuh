// Thread-block clusters of sm_90: rank, barrier, other blocks' shared memory.
#pragma once

#include "ops/kernels/common/barriers.cuh"

#if QWEN_VL_SM_90
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
__device__ __forceinline__ void shared_store(uint32_t address, float4 v) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(v.x), "f"(v.y), "f"(v.z),
               "f"(v.w) : "memory");
}
// The address in block `rank` of what lies at `address` in this block.
__device__ __forceinline__ uint32_t cluster_address(uint32_t address, uint32_t rank) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
__device__ __forceinline__ float4 cluster_load(uint32_t there) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z),
                                                                     "=f"(v.w) : "r"(there) : "memory");
  return v;
}
// Without a cluster-wide fence, which would cost a trip to L2: it announces that matrix instructions have read a stage,
// and they write nothing.
__device__ __forceinline__ void barrier_arrive_at(uint32_t there) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(there) : "memory");
}

}  // namespace qwen
#endif

// Boxes of matrices fetched and stored by the tensor memory accelerator of sm_90: the map, made on the host, and
// copies.
#pragma once

#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 12000
#include <cuda.h>

#include "ops/kernels/common/barriers.cuh"

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
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result);
#else
    cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &result);
#endif
    return result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(entry) : nullptr;
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

#if QWEN_VL_SM_90
// Has the map itself fetched, ahead of its first use.
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
// Boxes of two or four dimensions; with a mask they land at the same place in each block whose bit is set.
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
               "l"(&map), "r"(column), "r"(row), "r"(barrier) : "memory");
}
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          uint16_t blocks) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
               "l"(&map), "r"(column), "r"(row), "r"(barrier), "h"(blocks) : "memory");
}
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          int head, int group) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
               "l"(&map), "r"(column), "r"(row), "r"(head), "r"(group), "r"(barrier) : "memory");
}
__device__ __forceinline__ void fetch_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int column, int row,
                                          int head, int group, uint16_t blocks) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
               "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(to),
               "l"(&map), "r"(column), "r"(row), "r"(head), "r"(group), "r"(barrier), "h"(blocks) : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap& map, uint32_t from, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];\n"
               "cp.async.bulk.commit_group;" ::"l"(&map),
               "r"(column), "r"(row), "r"(from) : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap& map, uint32_t from, int column, int row, int head,
                                          int group) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];\n"
               "cp.async.bulk.commit_group;" ::"l"(&map),
               "r"(column), "r"(row), "r"(head), "r"(group), "r"(from) : "memory");
}
// Until the stores of this thread have read their shared memory.
__device__ __forceinline__ void store_wait() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
#endif

}  // namespace qwen
#endif

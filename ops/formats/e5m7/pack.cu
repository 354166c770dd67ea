#include "ops/formats/e5m7/pack.h"

#include <cuda_fp16.h>

#include "ops/formats/e5m7/bits.cuh"
#include "ops/kernels/common/hopper_launch.cuh"
#include "ops/kernels/common/status.h"
#include "ops/kernels/common/wgmma.cuh"

namespace qwen {
namespace {

constexpr int kThreads = 256, kQuads = 4;

// A weight's upper bits, or 0 with `failed` counted where it has more than fit.
__device__ uint32_t stored(__half weight, int& failed) {
  const __half scaled = __hmul(weight, __float2half(kE5m7Scale));
  const uint32_t bits = __half_as_ushort(scaled);
  const bool fits = (bits & 7) == 0 && !__hisinf(scaled) && !__hisnan(scaled);
  failed += !fits;
  return fits ? bits : 0;
}

// One thread for each quad of each granule.
__global__ void pack_kernel(const __half* __restrict__ from, char* to, long long quads, int granules, int* failed) {
  const long long i = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= quads) return;
  const int quad = i % kQuads, column = i / kQuads % granules;
  const long long row = i / kQuads / granules;
  const __half* values = from + i / kQuads * kE5m7Columns + 2 * quad;
  int wrong = 0;
  uint32_t pairs[kE5m7Pairs];
#pragma unroll
  for (int n = 0; n < kE5m7Pairs; ++n) pairs[n] = stored(values[8 * n], wrong) | stored(values[8 * n + 1], wrong) << 16;
#pragma unroll
  for (int e = 0; e < kE5m7Pairs - kE5m7Words; ++e) {
    const uint32_t extra = pairs[kE5m7Words + e];
#pragma unroll
    for (int j = 0; j < 4; ++j) pairs[4 * e + j] |= extra >> (13 - 3 * j) & 0x00070007u;
    pairs[12] |= (extra >> 3 & 0x00010001u) << e;
  }
  char* granule = to + e5m7_granule_at(row, column, granules);
  uint4* planes = reinterpret_cast<uint4*>(granule + e5m7_planes_at(row % 2, quad));
#pragma unroll
  for (int p = 0; p < 3; ++p)
    planes[4 * p] = make_uint4(pairs[4 * p], pairs[4 * p + 1], pairs[4 * p + 2], pairs[4 * p + 3]);
  *reinterpret_cast<uint32_t*>(granule + e5m7_tail_at(row % 2, quad)) = pairs[12];
  if (wrong) atomicAdd(failed, wrong);
}

__global__ void unpack_kernel(const char* __restrict__ from, __half* to, long long quads, int granules) {
  const long long i = static_cast<long long>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= quads) return;
  const int quad = i % kQuads, column = i / kQuads % granules;
  const long long row = i / kQuads / granules;
  const char* granule = from + e5m7_granule_at(row, column, granules);
  __half2* values = reinterpret_cast<__half2*>(to + i / kQuads * kE5m7Columns + 2 * quad);
  E5m7Share share;
  share.load(granule, {static_cast<int>(row % 2), quad});
#pragma unroll
  for (int n = 0; n < kE5m7Pairs; ++n) {
    const uint32_t pair = share.pair(n);
    values[4 * n] = __hmul2(*reinterpret_cast<const __half2*>(&pair), __float2half2_rn(kE5m7Unscale));
  }
}

#if CUDART_VERSION >= 12000
// What can_run is asked about; never launched.
__global__ void __launch_bounds__(QWEN_VL_HAS_WGMMA ? kThreads : 1) readable_kernel() {}
#endif

bool valid(long long rows, long long columns) {
  return rows >= 0 && rows % kE5m7Rows == 0 && columns > 0 && columns % kE5m7Columns == 0 &&
         rows * columns / 32 <= 1ll << 38;
}

unsigned blocks_of(long long quads) { return static_cast<unsigned>((quads + kThreads - 1) / kThreads); }

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_e5m7_readable() {
#if CUDART_VERSION >= 12000
  return qwen::can_run(qwen::readable_kernel, qwen::kThreads, 0);
#else
  return 0;
#endif
}

extern "C" int qwen_vl_e5m7_pack(const void* from, void* to, long long rows, long long columns, int* failed,
                                 cudaStream_t stream) {
  using namespace qwen;
  if (!valid(rows, columns)) return QWEN_VL_UNSUPPORTED;
  const long long quads = rows * columns / kE5m7Columns * kQuads;
  if (quads == 0) return QWEN_VL_OK;
  pack_kernel<<<blocks_of(quads), kThreads, 0, stream>>>(static_cast<const __half*>(from), static_cast<char*>(to),
                                                         quads, static_cast<int>(columns / kE5m7Columns), failed);
  return cudaGetLastError();
}

extern "C" int qwen_vl_e5m7_unpack(const void* from, void* to, long long rows, long long columns, cudaStream_t stream) {
  using namespace qwen;
  if (!valid(rows, columns)) return QWEN_VL_UNSUPPORTED;
  const long long quads = rows * columns / kE5m7Columns * kQuads;
  if (quads == 0) return QWEN_VL_OK;
  unpack_kernel<<<blocks_of(quads), kThreads, 0, stream>>>(static_cast<const char*>(from), static_cast<__half*>(to),
                                                           quads, static_cast<int>(columns / kE5m7Columns));
  return cudaGetLastError();
}

#include "ops/kernels/prefill/rows.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

constexpr int kThreads = 256;

// Block b < batch places row b; the last block marks what lies beyond the last token.
__global__ void pack_index_kernel(const int* __restrict__ lengths, int* offsets, int2* places, int batch, int tokens) {
  __shared__ int partial[kThreads];
  const int row = blockIdx.x;
  int before = 0;
  for (int b = threadIdx.x; b < row; b += kThreads) before += lengths[b];
  partial[threadIdx.x] = before;
  __syncthreads();
  for (int half = kThreads / 2; half; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  const int first = partial[0];
  if (row < batch && threadIdx.x == 0) offsets[row] = first;
  const int count = row < batch ? lengths[row] : tokens - first;
  for (int i = threadIdx.x; i < count && first + i < tokens; i += kThreads)
    places[first + i] = row < batch ? make_int2(row, i) : make_int2(-1, 0);
}

template <bool PACK>
__global__ void move_rows_kernel(const uint4* from, const int2* __restrict__ places, uint4* to, int seq, int vectors) {
  const int2 place = places[blockIdx.x];
  if (place.x < 0 || place.y >= seq) return;
  const long long packed = static_cast<long long>(blockIdx.x) * vectors;
  const long long padded = (static_cast<long long>(place.x) * seq + place.y) * vectors;
  for (int i = threadIdx.x; i < vectors; i += kThreads)
    to[(PACK ? packed : padded) + i] = from[(PACK ? padded : packed) + i];
}

template <bool PACK>
int move_rows(const void* from, const int2* places, void* to, int tokens, int seq, int width, cudaStream_t stream) {
  if (width % kVector) return QWEN_VL_UNSUPPORTED;
  if (tokens == 0) return QWEN_VL_OK;
  move_rows_kernel<PACK><<<tokens, kThreads, 0, stream>>>(static_cast<const uint4*>(from), places,
                                                          static_cast<uint4*>(to), seq, width / kVector);
  return cudaGetLastError();
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_pack_index(const int* lengths, int* offsets, int2* places, int batch, int tokens,
                                  cudaStream_t stream) {
  qwen::pack_index_kernel<<<batch + 1, qwen::kThreads, 0, stream>>>(lengths, offsets, places, batch, tokens);
  return cudaGetLastError();
}

extern "C" int qwen_vl_pack_rows(const void* padded, const int2* places, void* packed, int tokens, int seq, int width,
                                 cudaStream_t stream) {
  return qwen::move_rows<true>(padded, places, packed, tokens, seq, width, stream);
}

extern "C" int qwen_vl_unpack_rows(const void* packed, const int2* places, void* padded, int tokens, int seq, int width,
                                   cudaStream_t stream) {
  return qwen::move_rows<false>(packed, places, padded, tokens, seq, width, stream);
}

#include "each.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "cache.h"
#include "generation.h"
#include "heads.h"
#include "padding.h"
#include "rotary.h"

namespace stock {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <typename Body>
__global__ void each_kernel(int64_t count, Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

}  // namespace

template <typename Body>
int each_cuda(int64_t count, const Body& body, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  const int64_t blocks = (count + kThreads - 1) / kThreads;
  each_kernel<<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads, 0, stream>>>(count, body);
  return cudaGetLastError();
}

#define STOCK_EACH(...) template int each_cuda<__VA_ARGS__>(int64_t, const __VA_ARGS__&, cudaStream_t)
STOCK_EACH(PackTokens);
STOCK_EACH(RowPadding);
STOCK_EACH(RowStarts);
STOCK_EACH(LastTokens<Unit2>);
STOCK_EACH(LastTokens<Unit16>);
STOCK_EACH(SplitHeads<Unit2>);
STOCK_EACH(SplitHeads<Unit16>);
STOCK_EACH(MergeHeads<Unit2>);
STOCK_EACH(MergeHeads<Unit16>);
STOCK_EACH(RotaryTable);
STOCK_EACH(RotateHeads<float>);
STOCK_EACH(RotateHeads<__half>);
STOCK_EACH(RotateHeads<__nv_bfloat16>);
STOCK_EACH(WriteCache);
STOCK_EACH(NoteToken);
STOCK_EACH(NoteInput);
STOCK_EACH(HoldEnds);
STOCK_EACH(PenalizeRepeats);
STOCK_EACH(Temper);
STOCK_EACH(HoldTokens);
STOCK_EACH(StopAtEnds);
STOCK_EACH(StopAtEndsNext);

}  // namespace stock

#include "ops/kernels/sampling/lm_head.h"

#include "ops/kernels/common/norm.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"
#include "ops/kernels/products/gemm.h"
#include "ops/kernels/sampling/advance.h"
#include "ops/kernels/sampling/best.cuh"
#include "ops/kernels/sampling/tuning.h"

namespace qwen {
namespace {

// The matrix product, without addresses.
QwenVlGemm product_of(const QwenVlLmHead& a) {
  QwenVlGemm g = qwen::product(static_cast<long long>(a.batch) * a.columns, a.hidden, a.vocab, a.dtype);
  g.float_output = 1;
  g.format = a.format;
  return g;
}

struct Buffers {
  void *rows, *unpacked;
  Best* best;
  size_t bytes;

  Buffers(const QwenVlLmHead& a, void* workspace) {
    const QwenVlGemm product = product_of(a);
    Slices slices(workspace);
    rows = slices.take(size_t(a.batch) * a.columns * a.hidden * 2);
    best = slices.take<Best>(a.batch * kParts * sizeof(Best));
    unpacked = slices.take(qwen_vl_gemm_unpacked_bytes(&product));
    bytes = slices.used();
  }
};

__global__ void gather_kernel(const uint4* __restrict__ x, const int* __restrict__ logit_columns, uint4* rows,
                              int columns, int seq, int vectors) {
  const int column = min(max(logit_columns[blockIdx.x], 0), seq - 1);
  const uint4* from = x + (static_cast<long long>(blockIdx.x / columns) * seq + column) * vectors;
  uint4* to = rows + static_cast<long long>(blockIdx.x) * vectors;
  for (int i = threadIdx.x; i < vectors; i += kThreads) to[i] = from[i];
}

__device__ Best block_best(Best own) {
  __shared__ Best shared[kThreads];
  shared[threadIdx.x] = own;
  __syncthreads();
  for (int half = kThreads / 2; half; half /= 2) {
    if (threadIdx.x < half)
      shared[threadIdx.x].take(shared[threadIdx.x + half].value, shared[threadIdx.x + half].index);
    __syncthreads();
  }
  return shared[0];
}

__global__ void partial_best_kernel(const float* __restrict__ logits, Best* parts, int columns, int vocab) {
  const int row = blockIdx.y;
  const float* from = logits + (static_cast<long long>(row) * columns + columns - 1) * vocab;
  Best best{-INFINITY, 0};
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < vocab; i += kParts * kThreads) best.take(from[i], i);
  best = block_best(best);
  if (threadIdx.x == 0) parts[row * kParts + blockIdx.x] = best;
}

__global__ void advance_kernel(const QwenVlLmHead a, const Best* __restrict__ parts) {
  const int row = blockIdx.x;
  Best best{-INFINITY, 0};
  if (threadIdx.x < kParts) best = parts[row * kParts + threadIdx.x];
  best = block_best(best);
  if (threadIdx.x == 0 && !a.finished[row]) advance(a, row, best.index, a.lengths[row]);
}

}  // namespace
}  // namespace qwen

extern "C" size_t qwen_vl_lm_head_workspace(const QwenVlLmHead* arguments) {
  return qwen::Buffers(*arguments, nullptr).bytes;
}

extern "C" int qwen_vl_lm_head(QwenVlContext* context, const QwenVlLmHead* arguments, void* workspace,
                               size_t workspace_bytes, cudaStream_t stream) {
  using namespace qwen;
  const QwenVlLmHead& a = *arguments;
  const Buffers buffers(a, workspace);
  if (workspace_bytes < buffers.bytes) return QWEN_VL_WORKSPACE_SMALL;
  if (a.hidden % kVector || a.batch > 65535) return QWEN_VL_UNSUPPORTED;
  const int rows = a.batch * a.columns;
  if (rows == 0) return QWEN_VL_OK;

  gather_kernel<<<rows, kThreads, 0, stream>>>(static_cast<const uint4*>(a.x), a.logit_columns,
                                               static_cast<uint4*>(buffers.rows), a.columns, a.seq, a.hidden / kVector);
  QWEN_VL_TRY(cudaGetLastError());
  QWEN_VL_TRY(qwen_vl_rms_norm(buffers.rows, a.ln_f_weight, buffers.rows, rows, a.hidden, a.epsilon, a.dtype, stream));
  QwenVlGemm g = product_of(a);
  g.weight = a.lm_head_weight;
  g.x = buffers.rows;
  g.y = a.logits;
  g.unpacked = buffers.unpacked;
  QWEN_VL_TRY(qwen_vl_gemm(context, &g, stream));
  if (a.leave_choice) return QWEN_VL_OK;
  partial_best_kernel<<<dim3(kParts, a.batch), kThreads, 0, stream>>>(a.logits, buffers.best, a.columns, a.vocab);
  QWEN_VL_TRY(cudaGetLastError());
  advance_kernel<<<a.batch, kThreads, 0, stream>>>(a, buffers.best);
  return cudaGetLastError();
}

// Matrix products through cuBLASLt or own kernels: the fastest of them, as timed when a model is loaded.
#pragma once

#include "ops/kernels/common/context.h"

extern "C" {
// y[b] = x[b] @ weight^T (+ bias) (+ addend[b]); every matrix is row-major. With kGelu, y = gelu(x @ weight^T + bias);
// with kSiluMul the weight is gate over up and y [tokens, out / 2] = silu(gate) * up; both with batch 1, no addend.
struct QwenVlGemm {
  const void* weight;              // [out, in]
  const void* x;                   // [batch, tokens, in], rows x_stride values apart
  void* y;                         // [batch, tokens, out], half precision or fp32
  const void* bias;                // [out] or null
  const void* addend;              // [tokens, out] in y's type or null; y itself adds in place
  long long tokens, in, out;
  long long x_stride, y_stride;    // values from one row to the next; y's is also the addend's, 0: out
  long long batch;                 // 1 unless the addend is shared by several groups of rows
  long long x_batch, y_batch, addend_batch;  // values from one batch to the next
  int dtype;                       // kFloat16 or kBfloat16 of weight, x, bias
  int float_output;                // y (and addend) in fp32
  int activation;                  // kNoActivation, kGelu or kSiluMul
  void* wide;                      // kSiluMul: [tokens, out] of scratch memory
  int layer, layers;               // of so many in a row, all of which timing reads: from memory, not from L2
  int format;                      // of the weight (ops/formats/registry.h): dtype, or packed, with batch 1 then
  void* unpacked;                  // qwen_vl_gemm_unpacked_bytes of scratch memory, 256-byte aligned
};

// Bytes that the product needs for weights that it unpacks: 0 where a kernel reads them as they are.
size_t qwen_vl_gemm_unpacked_bytes(const QwenVlGemm* gemm);

// Takes the way that was timed for the product on this device, with the count of rows that comes next to its own
// (qwen_vl_gemm_rung); where none was, what cuBLASLt suggests first, or for packed weights the first tile shape that
// can. It neither allocates nor synchronises, unless this thread is tuning.
int qwen_vl_gemm(QwenVlContext* context, const QwenVlGemm* gemm, cudaStream_t stream);

// 1: from now on products of the calling thread are timed, each once for each rung of rows, which allocates and
// synchronises (not inside a stream capture); 0: no longer. Returns what it was.
int qwen_vl_gemm_tuning(int on);

// The count of rows, at least as many, that products of so many rows are timed with. Between two rungs no tile shape
// needs another tile, so the choice is the same; beyond the largest it is the largest's.
long long qwen_vl_gemm_rung(long long rows);
}

namespace qwen {
// A product of whole matrices, without addresses.
inline QwenVlGemm product(long long tokens, long long in, long long out, int dtype) {
  QwenVlGemm g{};
  g.tokens = tokens;
  g.in = g.x_stride = in;
  g.out = out;
  g.batch = 1;
  g.dtype = g.format = dtype;
  return g;
}

// One of a layer's, where the weights of all layers follow one another.
inline QwenVlGemm layer_product(long long tokens, long long in, long long out, int dtype, int activation, int layers) {
  QwenVlGemm g = product(tokens, in, out, dtype);
  g.activation = activation;
  g.layers = layers;
  return g;
}
}  // namespace qwen

#include "ops/kernels/prefill/embedding.h"

#include "ops/kernels/common/status.h"
#include "ops/kernels/common/vector.cuh"

namespace qwen {
namespace {

__global__ void embedding_kernel(const QwenVlEmbedding a, int vectors) {
  const int column = blockIdx.x, row = blockIdx.y;
  const long long token = a.tokens[static_cast<long long>(row) * a.seq + column];
  const uint4* source = nullptr;
  if (token >= 0 && token < a.vocab) source = static_cast<const uint4*>(a.table) + token * vectors;
  for (int image = 0; image < a.images; ++image) {
    const int slot = column - a.image_starts[2 * image + 1];
    if (a.image_starts[2 * image] == row && slot >= 0 && slot < a.features_per_image)
      source = static_cast<const uint4*>(a.features) +
               (static_cast<long long>(image) * a.features_per_image + slot) * vectors;
  }
  uint4* to = static_cast<uint4*>(a.hidden) + (static_cast<long long>(row) * a.seq + column) * vectors;
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) to[i] = source ? source[i] : make_uint4(0, 0, 0, 0);
}

}  // namespace
}  // namespace qwen

extern "C" int qwen_vl_embedding(const QwenVlEmbedding* arguments, cudaStream_t stream) {
  const QwenVlEmbedding& a = *arguments;
  if (a.hidden_size % qwen::kVector || a.batch > 65535) return QWEN_VL_UNSUPPORTED;
  if (a.batch == 0 || a.seq == 0) return QWEN_VL_OK;
  qwen::embedding_kernel<<<dim3(a.seq, a.batch), 256, 0, stream>>>(a, a.hidden_size / qwen::kVector);
  return cudaGetLastError();
}

#include "ops/kernels/vision/resampler.h"

#include <cmath>

#include "ops/kernels/attention/flash.h"
#include "ops/kernels/common/arguments.h"
#include "ops/kernels/common/norm.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/products/gemm.h"

namespace {

struct Buffers {
  void *kv, *keys, *values, *attended, *mixed;
  size_t bytes;

  Buffers(const QwenVlResampler& a, void* workspace) {
    const size_t row = size_t(a.embed) * 2, keys_bytes = row * a.images * a.patches;
    qwen::Slices slices(workspace);
    kv = slices.take(keys_bytes);
    keys = slices.take(keys_bytes);
    values = slices.take(keys_bytes);
    attended = slices.take(row * a.images * a.queries);
    mixed = slices.take(row * a.images * a.queries);
    bytes = slices.used();
  }
};

}  // namespace

extern "C" size_t qwen_vl_resampler_workspace(const QwenVlResampler* arguments) {
  return Buffers(*arguments, nullptr).bytes;
}

extern "C" int qwen_vl_resampler(QwenVlContext* context, const QwenVlResampler* arguments, void* workspace,
                                 size_t workspace_bytes, cudaStream_t stream) {
  const QwenVlResampler& a = *arguments;
  const Buffers buffers(a, workspace);
  if (workspace_bytes < buffers.bytes) return QWEN_VL_WORKSPACE_SMALL;
  if (a.images == 0) return QWEN_VL_OK;
  const long long embed = a.embed, key_rows = static_cast<long long>(a.images) * a.patches;
  const long long query_rows = static_cast<long long>(a.images) * a.queries;

  auto gemm = [&](const void* weight, const void* bias, const void* x, long long rows, long long in, void* y) {
    QwenVlGemm g = qwen::product(rows, in, embed, a.dtype);
    g.weight = weight;
    g.bias = bias;
    g.x = x;
    g.y = y;
    return qwen_vl_gemm(context, &g, stream);
  };
  QWEN_VL_TRY(gemm(a.kv_proj_weight, nullptr, a.x, key_rows, a.width, buffers.kv));
  QWEN_VL_TRY(qwen_vl_layer_norm(buffers.kv, a.ln_kv_weight, a.ln_kv_bias, buffers.kv, key_rows, a.embed, a.epsilon,
                                 a.dtype, stream));

  QwenVlGemm keys = qwen::product(a.patches, embed, embed, a.dtype);
  keys.weight = a.key_value_weight;
  keys.x = buffers.kv;
  keys.y = buffers.keys;
  keys.addend = a.key_bias;  // one row per patch, the same for every image
  keys.batch = a.images;
  keys.x_batch = keys.y_batch = a.patches * embed;
  QWEN_VL_TRY(qwen_vl_gemm(context, &keys, stream));
  const void* value_weight = static_cast<const char*>(a.key_value_weight) + embed * embed * 2;
  QWEN_VL_TRY(gemm(value_weight, a.value_bias, buffers.kv, key_rows, embed, buffers.values));

  QwenVlAttention attention{};
  attention.q = a.query;
  attention.k = buffers.keys;
  attention.v = buffers.values;
  attention.out = buffers.attended;
  attention.query_row = attention.key_row = attention.out_row = embed;
  attention.query_head = attention.key_head = attention.out_head = embed / a.heads;
  attention.query_group = 0;
  attention.key_group = a.patches * embed;
  attention.out_group = a.queries * embed;
  attention.groups = a.images;
  attention.heads = a.heads;
  attention.head_dim = a.embed / a.heads;
  attention.query_rows = a.queries;
  attention.key_rows = a.patches;
  attention.scale = 1.f / std::sqrt(static_cast<float>(attention.head_dim));
  attention.dtype = a.dtype;
  QWEN_VL_TRY(qwen_vl_attention(&attention, stream));

  QWEN_VL_TRY(gemm(a.out_weight, a.out_bias, buffers.attended, query_rows, embed, buffers.mixed));
  QWEN_VL_TRY(qwen_vl_layer_norm(buffers.mixed, a.ln_post_weight, a.ln_post_bias, buffers.mixed, query_rows, a.embed,
                                 a.epsilon, a.dtype, stream));
  return gemm(a.proj_weight, nullptr, buffers.mixed, query_rows, embed, a.y);
}

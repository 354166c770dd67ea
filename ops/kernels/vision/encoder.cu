#include "ops/kernels/vision/encoder.h"

#include <algorithm>
#include <cmath>

#include "ops/kernels/attention/flash.h"
#include "ops/kernels/common/arguments.h"
#include "ops/kernels/common/norm.h"
#include "ops/kernels/common/status.h"
#include "ops/kernels/products/gemm.h"
#include "ops/kernels/vision/patches.h"

namespace {

struct Buffers {
  void *normed, *qkv, *wide;
  size_t bytes;

  Buffers(const QwenVlVisionEncoder& a, void* workspace) {
    const size_t grid = a.image_size / a.patch_size, rows = a.images * grid * grid;
    qwen::Slices slices(workspace);
    normed = slices.take(rows * a.width * 2);
    qkv = slices.take(rows * a.width * 6);
    wide = slices.take(rows * std::max(a.mlp_width, a.patch_columns) * 2);  // patches, then the MLP
    bytes = slices.used();
  }
};

}  // namespace

extern "C" size_t qwen_vl_vision_encoder_workspace(const QwenVlVisionEncoder* arguments) {
  return Buffers(*arguments, nullptr).bytes;
}

extern "C" int qwen_vl_vision_encoder(QwenVlContext* context, const QwenVlVisionEncoder* arguments, void* workspace,
                                      size_t workspace_bytes, cudaStream_t stream) {
  const QwenVlVisionEncoder& a = *arguments;
  const Buffers buffers(a, workspace);
  if (workspace_bytes < buffers.bytes) return QWEN_VL_WORKSPACE_SMALL;
  const long long width = a.width, mlp = a.mlp_width, grid = a.image_size / a.patch_size, patches = grid * grid;
  const long long rows = a.images * patches;
  if (rows == 0) return QWEN_VL_OK;

  auto gemm = [&](const void* weight, const void* bias, const void* x, long long in, void* y, long long out,
                  bool residual, int layer, int activation = qwen::kNoActivation) {
    QwenVlGemm g = qwen::layer_product(rows, in, out, a.dtype, activation, a.layers);
    g.weight = qwen::element(weight, layer * in * out);
    g.bias = qwen::element(bias, layer * out);
    g.x = x;
    g.y = y;
    g.addend = residual ? y : nullptr;
    g.layer = layer;
    return qwen_vl_gemm(context, &g, stream);
  };
  auto layer_norm = [&](const void* x, const void* weight, const void* bias, void* y, int layer) {
    return qwen_vl_layer_norm(x, qwen::element(weight, layer * width), qwen::element(bias, layer * width), y, rows,
                              a.width, a.epsilon, a.dtype, stream);
  };

  QWEN_VL_TRY(
      qwen_vl_patches(a.pixels, buffers.wide, a.images, a.image_size, a.patch_size, a.patch_columns, a.dtype, stream));
  QwenVlGemm embed = qwen::product(patches, a.patch_columns, width, a.dtype);
  embed.weight = a.patch_weight;
  embed.x = buffers.wide;
  embed.y = a.y;
  embed.addend = a.position;  // the same for every image
  embed.batch = a.images;
  embed.x_batch = patches * a.patch_columns;
  embed.y_batch = patches * width;
  QWEN_VL_TRY(qwen_vl_gemm(context, &embed, stream));
  QWEN_VL_TRY(layer_norm(a.y, a.ln_pre_weight, a.ln_pre_bias, a.y, 0));

  QwenVlAttention attention{};
  attention.q = buffers.qkv;
  attention.k = qwen::element(buffers.qkv, width);
  attention.v = qwen::element(buffers.qkv, 2 * width);
  attention.out = buffers.normed;
  attention.query_row = attention.key_row = 3 * width;
  attention.query_head = attention.key_head = attention.out_head = width / a.heads;
  attention.query_group = attention.key_group = patches * 3 * width;
  attention.out_row = width;
  attention.out_group = patches * width;
  attention.groups = a.images;
  attention.heads = a.heads;
  attention.head_dim = static_cast<int>(width / a.heads);
  attention.query_rows = attention.key_rows = static_cast<int>(patches);
  attention.scale = 1.f / std::sqrt(static_cast<float>(attention.head_dim));
  attention.dtype = a.dtype;

  for (int layer = 0; layer < a.layers; ++layer) {
    QWEN_VL_TRY(layer_norm(a.y, a.ln_1_weight, a.ln_1_bias, buffers.normed, layer));
    QWEN_VL_TRY(gemm(a.qkv_weight, a.qkv_bias, buffers.normed, width, buffers.qkv, 3 * width, false, layer));
    QWEN_VL_TRY(qwen_vl_attention(&attention, stream));
    QWEN_VL_TRY(gemm(a.out_weight, a.out_bias, buffers.normed, width, a.y, width, true, layer));
    QWEN_VL_TRY(layer_norm(a.y, a.ln_2_weight, a.ln_2_bias, buffers.normed, layer));
    QWEN_VL_TRY(gemm(a.fc1_weight, a.fc1_bias, buffers.normed, width, buffers.wide, mlp, false, layer, qwen::kGelu));
    QWEN_VL_TRY(gemm(a.fc2_weight, a.fc2_bias, buffers.wide, mlp, a.y, width, true, layer));
  }
  return QWEN_VL_OK;
}

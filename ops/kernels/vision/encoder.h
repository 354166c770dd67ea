// The vision encoder: patches, position table, pre-norm, transformer blocks.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers; the weights are laid out as in ops/weights.py (vision_encoder_roles).
struct QwenVlVisionEncoder {
  const float* pixels;          // [images, 3, image_size, image_size], normalised
  void* y;                      // out [images, patches, width]
  const void *patch_weight, *position, *ln_pre_weight, *ln_pre_bias;
  const void *ln_1_weight, *ln_1_bias, *qkv_weight, *qkv_bias, *out_weight, *out_bias;
  const void *ln_2_weight, *ln_2_bias, *fc1_weight, *fc1_bias, *fc2_weight, *fc2_bias;
  int images, image_size, patch_size, patch_columns;  // patch_columns: columns of patch_weight
  int width, layers, heads, mlp_width;
  float epsilon;
  int dtype;                    // qwen::kFloat16 or kBfloat16 of everything but pixels
};
// Bytes of workspace, 256-byte aligned. The launch itself neither allocates nor synchronises unless the thread is
// tuning (see products/gemm.h), so it can be captured.
size_t qwen_vl_vision_encoder_workspace(const QwenVlVisionEncoder* arguments);
int qwen_vl_vision_encoder(QwenVlContext* context, const QwenVlVisionEncoder* arguments, void* workspace,
                           size_t workspace_bytes, cudaStream_t stream);
}

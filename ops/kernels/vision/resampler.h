// The resampler: one cross-attention of learned queries over an image's patches, then the output projection.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers; the weights are laid out as in ops/weights.py (resampler_roles).
struct QwenVlResampler {
  const void* x;                // [images, patches, width]
  void* y;                      // out [images, queries, embed]
  const void *kv_proj_weight, *ln_kv_weight, *ln_kv_bias, *query, *key_value_weight, *key_bias, *value_bias;
  const void *out_weight, *out_bias, *ln_post_weight, *ln_post_bias, *proj_weight;
  int images, patches, width, embed, queries, heads;
  float epsilon;
  int dtype;                    // qwen::kFloat16 or kBfloat16 of everything
};
// As for qwen_vl_vision_encoder.
size_t qwen_vl_resampler_workspace(const QwenVlResampler* arguments);
int qwen_vl_resampler(QwenVlContext* context, const QwenVlResampler* arguments, void* workspace, size_t workspace_bytes,
                      cudaStream_t stream);
}

// The decoder stack over any number of tokens: prompts, and decode steps of more rows than the fused step takes.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers; the weights are laid out as in ops/weights.py (decoder_roles).
struct QwenVlDecoder {
  const void* x;                // [batch, seq, hidden] embeddings, right-padded
  void* y;                      // out, same shape, may be x; padded places are unspecified
  void *k_cache, *v_cache;      // [layers, batch, heads, capacity, head_dim]
  const int* lengths;           // [batch] valid tokens of this call
  const int* positions;         // [batch] tokens in the cache; not advanced here
  const float* inv_freq;        // [batch, head_dim / 2]
  const void *ln_1_weight, *qkv_weight, *qkv_bias, *out_weight, *ln_2_weight, *gate_up_weight, *down_weight;
  int batch, seq;
  int tokens;                   // at least the sum of the lengths, which the host may not know: batch * seq then
  int hidden, layers, heads, mlp_width, capacity;
  int logn_length;              // log-n scaling beyond this many slots; 0: none
  float epsilon;
  int dtype;                    // qwen::kFloat16 or kBfloat16 of x, y, caches, weights
  int format;                   // of the four matrices (ops/formats/registry.h): dtype, or a packed one of it
  const void *qkv_extra, *out_extra, *gate_up_extra, *down_extra;  // what the format adds to them, or null
};
// As for qwen_vl_vision_encoder. A captured call may be replayed with other lengths and positions as long as the
// lengths add up to at most `tokens`.
size_t qwen_vl_decoder_prefill_workspace(const QwenVlDecoder* arguments);
int qwen_vl_decoder_prefill(QwenVlContext* context, const QwenVlDecoder* arguments, void* workspace,
                            size_t workspace_bytes, cudaStream_t stream);
}

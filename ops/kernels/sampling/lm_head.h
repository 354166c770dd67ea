// The end of a call: logits of the requested columns, the greedy token of the last one, and the generation state.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers; the weights are laid out as in ops/weights.py (lm_head_roles).
struct QwenVlLmHead {
  const void* x;                  // [batch, seq, hidden]
  const int* logit_columns;       // [batch, columns], each in [0, seq)
  const int* lengths;             // [batch] valid tokens of this call
  const long long* stop_tokens;   // [stop_count]
  const void *ln_f_weight, *lm_head_weight;
  float* logits;                  // out [batch, columns, vocab]
  int* positions;                 // [batch]; state, here and below, is updated in place
  long long* next_tokens;         // [batch]
  long long* generated;           // [batch, generated_slots]
  int* counts;                    // [batch]
  int* finished;                  // [batch]; a finished row's state stays as it is
  int batch, seq, columns, hidden, vocab, stop_count, generated_slots;
  float epsilon;
  int dtype;                      // qwen::kFloat16 or kBfloat16 of x and the weights
  int leave_choice;               // 1: logits alone, the state stays as it is for who chooses the tokens
  int format;                     // of lm_head_weight (ops/formats/registry.h): dtype, or a packed one of it
  const void* lm_head_extra;      // what the format adds to it, or null
};
// As for qwen_vl_vision_encoder. Equal logits: the lowest token wins.
size_t qwen_vl_lm_head_workspace(const QwenVlLmHead* arguments);
int qwen_vl_lm_head(QwenVlContext* context, const QwenVlLmHead* arguments, void* workspace, size_t workspace_bytes,
                    cudaStream_t stream);
}

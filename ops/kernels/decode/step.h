// One decode step of the language model as a single kernel: token in, next token out, all state on the device; or its
// two halves, the decoder stack and the head, for callers that keep them apart.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ops/kernels/common/stream.h"

extern "C" {

// Everything one step reads and writes. All pointers are device pointers, 16-byte aligned; `T` is the type that
// `dtype` names; weights are laid out as in ops/weights.py ([layers, out, in], gate rows before up rows).
struct QwenVlDecodeArgs {
  int32_t dtype;            // qwen::kFloat16 or kBfloat16
  int32_t batch;            // rows of this step
  int32_t hidden;           // multiple of 8, equal to heads * head_dim
  int32_t layers;
  int32_t heads;
  int32_t head_dim;         // multiple of 8, at most 256
  int32_t mlp_width;        // multiple of 8
  int32_t vocab;
  int32_t cache_batch;      // rows the cache tensors hold, >= batch
  int32_t cache_slots;      // tokens a row of the cache holds
  int32_t generated_slots;  // columns of `generated`
  int32_t stop_count;       // entries of `stop_tokens`
  int32_t seq_length;       // log-n scaling of q beyond this many tokens; 0: none
  float epsilon;            // of the RMS norms

  const void* token_embedding;  // T [vocab, hidden]
  const void* ln_1_weight;      // T [layers, hidden]
  const void* qkv_weight;       // T [layers, 3 * hidden, hidden]
  const void* qkv_bias;         // T [layers, 3 * hidden]
  const void* out_weight;       // T [layers, hidden, hidden]
  const void* ln_2_weight;      // T [layers, hidden]
  const void* gate_up_weight;   // T [layers, 2 * mlp_width, hidden]
  const void* down_weight;      // T [layers, hidden, mlp_width]
  const void* ln_f_weight;      // T [hidden]
  const void* lm_head_weight;   // T [vocab, hidden]

  const float* inv_freq;        // [batch, head_dim / 2]
  const int64_t* stop_tokens;   // [stop_count]

  int32_t* positions;    // [batch] tokens in the cache; the step's token goes to this slot; +1
  int64_t* next_tokens;  // [batch] in: the token to feed; out: the token chosen
  int64_t* generated;    // [batch, generated_slots]; the token chosen goes to column counts[b]
  int32_t* counts;       // [batch]; +1
  int32_t* finished;     // [batch] non-zero: the row's state, cache and tokens stay as they are
  void* k_cache;         // T [layers, cache_batch, heads, cache_slots, head_dim], keys rotated
  void* v_cache;         // T, same shape
  float* logits;         // [batch, vocab]

  // The halves of a step. With `hidden_in` the step begins with these rows and needs no token; with `hidden_out` it
  // ends after the layers and writes their result there: no head, no state beyond the cache, `finished` may be null.
  // Zero layers with `hidden_in` are the head alone.
  const void* hidden_in;  // T [batch, hidden] or null
  void* hidden_out;       // T [batch, hidden] or null

  // 0: the token with the largest logit is chosen, and the rows' state moves on. 1: the step ends with `logits`; who
  // chooses the tokens moves `positions`, `next_tokens`, `generated`, `counts` and `finished` on.
  int32_t leave_choice;

  // Of the matrices (qkv, out, gate_up, down, lm_head), ops/formats/registry.h: `dtype`, or a packed one of it, of
  // whose kColumns `hidden` and `mlp_width` are multiples.
  int32_t format;

  // For tests and measurements; 0: the library's choice (tuning.h). Stages of the ring in shared memory, 3 or more
  // and no more than fit; rows of stages that may be on their way while a block multiplies, and while blocks exchange
  // results (8 rows are a stage); columns of waiting rows that are brought into L2.
  int32_t ring_stages, rows_in_flight, rows_in_exchange, ahead_columns;
};

// Bytes of workspace that qwen_vl_decode_step needs on the current device; 0 when the geometry is not supported
// there (see the limits above; the activations of one row must fit into shared memory).
size_t qwen_vl_decode_workspace_bytes(const QwenVlDecodeArgs* args);

// Enqueue one step. The workspace must be zeroed once before its first step; each step leaves it ready for the
// next one, and one workspace serves one stream at a time. The call can be captured into a CUDA graph. Results do
// not depend on timing: the same input gives the same bits. Returns a cudaError_t.
int qwen_vl_decode_step(const QwenVlDecodeArgs* args, void* workspace, size_t workspace_bytes, cudaStream_t stream);
}

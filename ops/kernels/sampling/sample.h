// The choice of each row's next token from its logits: repetition penalty, minimum length, temperature, top-k, top-p,
// draw; then the generation's state. Rows of temperature 0 take the likeliest token.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers.
struct QwenVlSample {
  const float* logits;           // [batch, columns, vocab]; the last column is drawn from
  const int* lengths;            // [batch] valid tokens of this call
  const long long* stop_tokens;  // [stop_count]
  int* sampling;                 // [batch, sampling_width(vocab)], see arithmetic.h; state, here and below
  int* positions;                // [batch]; the random numbers are those of the token's position
  long long* next_tokens;        // [batch]
  long long* generated;          // [batch, generated_slots]
  int* counts;                   // [batch]
  int* finished;                 // [batch]; a finished row's state stays as it is
  int batch, columns, vocab, stop_count, generated_slots;
};
// As for qwen_vl_vision_encoder. Of equal scores all are kept or none; the result depends on nothing but its inputs.
size_t qwen_vl_sample_workspace(const QwenVlSample* arguments);
int qwen_vl_sample(QwenVlContext* context, const QwenVlSample* arguments, void* workspace, size_t workspace_bytes,
                   cudaStream_t stream);
}

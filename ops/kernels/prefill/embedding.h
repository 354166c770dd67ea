// Token embedding with image features in their slots.
#pragma once

#include "ops/kernels/common/stream.h"

extern "C" {
struct QwenVlEmbedding {
  const void* table;           // token_embedding [vocab, hidden]
  const long long* tokens;     // [batch, seq]
  const void* features;        // image_features [images, features_per_image, hidden]
  const int* image_starts;     // [images, 2] = (row, column of the first slot); row -1: unused
  void* hidden;                // out [batch, seq, hidden]
  int batch, seq, hidden_size, vocab, images, features_per_image;
  int dtype;                   // kFloat16 or kBfloat16 of table, features, hidden
};
// An id outside the vocabulary gives zeros; of an image, what lies in the row's columns is written. hidden_size is a
// multiple of 8.
int qwen_vl_embedding(const QwenVlEmbedding* arguments, cudaStream_t stream);
}

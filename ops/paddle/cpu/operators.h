// The operators on the CPU: fp32, raw pointers, one function each. Weight names, shapes and layouts are those of
// ops/weights.py; the functions' meaning is that of ops/functional.py.
#pragma once
#include <cstdint>

namespace qwen_vl::cpu {

struct VisionEncoder {
  const float* pixels;  // [images, 3, image_size, image_size]
  const float *patch_weight, *position, *ln_pre_weight, *ln_pre_bias;
  const float *ln_1_weight, *ln_1_bias, *qkv_weight, *qkv_bias, *out_weight, *out_bias;
  const float *ln_2_weight, *ln_2_bias, *fc1_weight, *fc1_bias, *fc2_weight, *fc2_bias;
  float* out;  // [images, patches, width]
  int64_t images, image_size, patch_size, patch_columns, width, layers, heads, mlp_width;
  float eps;
};
void vision_encoder(const VisionEncoder& p);

struct Resampler {
  const float* features;  // [images, patches, vision_width]
  const float *kv_proj_weight, *ln_kv_weight, *ln_kv_bias, *query, *key_value_weight, *key_bias, *value_bias;
  const float *out_weight, *out_bias, *ln_post_weight, *ln_post_bias, *proj_weight;
  float* out;  // [images, queries, width]
  int64_t images, patches, vision_width, queries, width, heads;
  float eps;
};
void resampler(const Resampler& p);

struct Embedding {
  const int64_t* tokens;          // [batch, columns]
  const float* token_embedding;   // [vocab, hidden]
  const float* image_features;    // [images, queries, hidden]
  const int32_t* image_starts;    // [images, 2]
  float* out;                     // [batch, columns, hidden]
  int64_t batch, columns, vocab, hidden, images, queries;
};
void embedding(const Embedding& p);

struct Decoder {
  const float* hidden_in;    // [batch, columns, hidden]
  const int32_t* lengths;    // [batch]
  const int32_t* positions;  // [batch]
  const float* inv_freq;     // [batch, head_dim / 2]
  const float *ln_1_weight, *qkv_weight, *qkv_bias, *out_weight, *ln_2_weight, *gate_up_weight, *down_weight;
  float *k_cache, *v_cache;  // [layers, batch, heads, slots, head_dim]
  float* out;                // [batch, columns, hidden]; columns beyond a row's length become zero
  int64_t batch, columns, hidden, layers, heads, slots, mlp_width, seq_length;  // seq_length 0: no log-n scaling
  float eps;
};
void decoder(const Decoder& p);

struct LmHead {
  const float* hidden_in;        // [batch, columns, hidden]
  const int32_t* lengths;        // [batch]
  const int32_t* logit_columns;  // [batch, wanted]
  const int64_t* stop_tokens;    // [stops]
  const float *ln_f_weight, *lm_head_weight;
  int32_t* positions;            // [batch], state
  int64_t* next_tokens;          // [batch, 1], state
  int64_t* generated;            // [batch, capacity], state
  int32_t* counts;               // [batch], state
  int32_t* finished;             // [batch], state
  float* logits;                 // [batch, wanted, vocab]
  int64_t batch, columns, hidden, wanted, stops, vocab, capacity;
  float eps;
};
void lm_head(const LmHead& p);

}  // namespace qwen_vl::cpu

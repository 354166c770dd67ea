// Scaled dot-product attention of the CPU kernels.
#pragma once
#include <cstdint>

namespace qwen_vl::cpu {

// One attention problem per (batch row, head); all strides in values. Query i of a row attends to keys
// 0 .. keys-1, or to 0 .. past+i when causal.
struct Attention {
  const float* query;
  const float* key;
  const float* value;
  float* out;
  int64_t batch, heads, head_dim;
  int64_t query_batch, query_head, query_row;  // strides
  int64_t key_batch, key_head, key_row;        // strides, also of value
  int64_t out_batch, out_head, out_row;        // strides
  const int32_t* queries;                      // per batch row: how many queries
  const int32_t* past;                         // per batch row: keys before the first query (causal only)
  int64_t keys;                                // non-causal: keys of every row
  bool causal;
  float scale;
};

void attention(const Attention& p);

}  // namespace qwen_vl::cpu

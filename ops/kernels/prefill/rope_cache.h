// Rotary embedding and log-n scaling of q, rotary embedding of k, and the write of k and v to the KV cache.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// table[t, i] = (cos, sin) of (positions[row] + index) * inv_freq[row, i] for places[t] = (row, index), computed in
// fp32; the same for every layer. inv_freq [batch, half], table [tokens, half], half at most 128.
int qwen_vl_rope_table(const int2* places, const int* positions, const float* inv_freq, float2* table, int tokens,
                       int half, cudaStream_t stream);

struct QwenVlRopeCache {
  void* qkv;               // [tokens, 3 * heads * head_dim], bias added; q is replaced in place
  void* k_cache;           // one layer: [batch, heads, capacity, head_dim]
  void* v_cache;
  const int2* places;      // [tokens] = (row, index in the row); row -1: skipped
  const int* positions;    // [batch] tokens in the cache before this call
  const float2* table;     // [tokens, head_dim / 2] of qwen_vl_rope_table
  int tokens, heads, head_dim, capacity;
  int logn_length;         // q at slot p is scaled by ln(p+1)/ln(logn_length) beyond it; 0: never
  int dtype;               // kFloat16 or kBfloat16
};
// Tokens beyond the cache's capacity are not stored. head_dim is a multiple of 16 up to 256.
int qwen_vl_rope_cache(const QwenVlRopeCache* arguments, cudaStream_t stream);
}

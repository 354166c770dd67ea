// Softmax attention of many query rows (flash attention, forward), head dims 64, 104 and 128.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// Strides count values and are multiples of 8; k and v share theirs. Two forms:
//  lengths null: every group has query_rows queries and key_rows keys, all visible to each other;
//  lengths set: group b has lengths[b] queries, packed from row offsets[b] on (query_group and out_group are not used),
//  at slots positions[b] + i of a cache of key_rows slots, and each query sees the slots up to its own.
struct QwenVlAttention {
  const void *q, *k, *v;
  void* out;
  long long query_row, query_head, query_group;
  long long key_row, key_head, key_group;
  long long out_row, out_head, out_group;
  const int *lengths, *positions, *offsets;  // [groups]
  int groups, heads, head_dim;
  int query_rows;                            // with lengths: an upper bound of them
  int key_rows;
  float scale;                               // of q . k
  int dtype;                                 // kFloat16 or kBfloat16
};
int qwen_vl_attention(const QwenVlAttention* arguments, cudaStream_t stream);
}

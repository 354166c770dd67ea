// Packing of right-padded rows: the valid tokens of all rows one after another.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// offsets[b] is the packed index of row b's first token; places[t] = (row, index in the row), row -1 where t is at or
// beyond the sum of the lengths. `lengths` [batch] stays on the device, `tokens` bounds its sum; entries of
// `places` [tokens] and `offsets` [batch] are all written.
int qwen_vl_pack_index(const int* lengths, int* offsets, int2* places, int batch, int tokens, cudaStream_t stream);
// packed[t] = padded[row, index] and back; padded [batch, seq, width], packed [tokens, width], width a multiple of 8,
// both of a 2-byte type. Rows without a place are left as they are.
int qwen_vl_pack_rows(const void* padded, const int2* places, void* packed, int tokens, int seq, int width,
                      cudaStream_t stream);
int qwen_vl_unpack_rows(const void* packed, const int2* places, void* padded, int tokens, int seq, int width,
                        cudaStream_t stream);
}

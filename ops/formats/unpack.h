// Packed weights as numbers, for products that no kernel takes from them as they are.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// from [rows, columns] in the packed format of this number (registry.h) -> to [rows, columns] of its values; both in
// device memory, 16-byte aligned. QWEN_VL_UNSUPPORTED for other sizes than the format takes.
int qwen_vl_unpack(int format, const void* from, void* to, long long rows, long long columns, cudaStream_t stream);
}

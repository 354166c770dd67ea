// Images cut into patches, one matrix row a patch.
#pragma once

#include <cuda_runtime_api.h>

extern "C" {
// pixels f32 [images, 3, side, side] -> rows [images * (side / patch)^2, columns] of `dtype`; a row holds the patch's
// values in (channel, row, column) order and zeros from 3 * patch^2 to `columns`, a multiple of 8.
int qwen_vl_patches(const float* pixels, void* rows, int images, int side, int patch, int columns, int dtype,
                    cudaStream_t stream);
}

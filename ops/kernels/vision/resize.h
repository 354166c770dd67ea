// A photograph to the encoder's input: bicubic resize in Pillow's fixed-point arithmetic, then normalisation by table.
#pragma once

#include <cstddef>

#include "ops/kernels/common/context.h"

extern "C" {
// Device pointers. A row of `horizontal` or `vertical` is the first source pixel and then the weights of the taps that
// follow it, in units of 2^-22; a weight beyond the image is 0.
struct QwenVlResize {
  const unsigned char* image;   // [height, width, 3]
  const int* horizontal;        // [size, 1 + horizontal_taps]
  const int* vertical;          // [size, 1 + vertical_taps]
  const float* values;          // [3, 256] what each value of a channel becomes
  float* pixels;                // out [3, size, size]
  int height, width, size, horizontal_taps, vertical_taps;
  int columns_first;            // the order matters: bytes are rounded between the two passes
};
// As for qwen_vl_vision_encoder.
size_t qwen_vl_resize_workspace(const QwenVlResize* arguments);
int qwen_vl_resize(QwenVlContext* context, const QwenVlResize* arguments, void* workspace, size_t workspace_bytes,
                   cudaStream_t stream);
}

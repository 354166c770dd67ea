// Binding of the photograph's resize on a GPU (on the CPU Pillow does it): checks and dispatch.
#include "ops/kernels/vision/resize.h"
#include "ops/paddle/checks.h"
#include "ops/paddle/launch.h"

namespace {

using paddle::Tensor;

void forward(const Tensor& image, const Tensor& horizontal, const Tensor& vertical, const Tensor& values,
             Tensor& pixels, int index, bool columns_first) {
  qwen_vl::check_rank(image, "image", 3);
  qwen_vl::check_rank(horizontal, "horizontal", 2);
  qwen_vl::check_rank(vertical, "vertical", 2);
  qwen_vl::check_rank(pixels, "pixels", 4);
  qwen_vl::check_type(image, "image", paddle::DataType::UINT8);
  const int64_t images = pixels.shape()[0], size = pixels.shape()[3];
  const int64_t horizontal_taps = horizontal.shape()[1] - 1, vertical_taps = vertical.shape()[1] - 1;
  QWEN_VL_SHAPE(image, image.shape()[0], image.shape()[1], 3);
  QWEN_VL_SHAPE(horizontal, size, 1 + horizontal_taps);
  QWEN_VL_SHAPE(vertical, size, 1 + vertical_taps);
  QWEN_VL_SHAPE(values, 3, 256);
  QWEN_VL_SHAPE(pixels, images, 3, size, size);
  PD_CHECK(index >= 0 && index < images, "index ", index, " is none of ", images, " images");

  QwenVlResize p{};
  p.image = image.data<unsigned char>();
  p.horizontal = QWEN_VL_DATA(const int, horizontal);
  p.vertical = QWEN_VL_DATA(const int, vertical);
  p.values = QWEN_VL_DATA(const float, values);
  p.pixels = QWEN_VL_DATA(float, pixels) + index * 3 * size * size;
  p.height = image.shape()[0], p.width = image.shape()[1], p.size = size;
  p.horizontal_taps = horizontal_taps, p.vertical_taps = vertical_taps;
  p.columns_first = columns_first;
  QWEN_VL_LAUNCH("qwen_vl_resize", image, p, qwen_vl_resize);
}

}  // namespace

PD_BUILD_OP(qwen_vl_resize)
    .Inputs({"image", "horizontal", "vertical", "values", "pixels"})
    .Outputs({"pixels_out"})
    .Attrs({"index: int", "columns_first: bool"})
    .SetInplaceMap({{"pixels", "pixels_out"}})
    .SetKernelFn(PD_KERNEL(forward));

// Binding of the vision encoder: checks and dispatch.
#include <cmath>

#include "ops/paddle/checks.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/launch.h"

namespace {

using paddle::Tensor;

std::vector<Tensor> forward(const Tensor& pixels, const Tensor& patch_weight, const Tensor& position,
                            const Tensor& ln_pre_weight, const Tensor& ln_pre_bias, const Tensor& ln_1_weight,
                            const Tensor& ln_1_bias, const Tensor& qkv_weight, const Tensor& qkv_bias,
                            const Tensor& out_weight, const Tensor& out_bias, const Tensor& ln_2_weight,
                            const Tensor& ln_2_bias, const Tensor& fc1_weight, const Tensor& fc1_bias,
                            const Tensor& fc2_weight, const Tensor& fc2_bias, int heads, float eps) {
  qwen_vl::check_rank(pixels, "pixels", 4);
  qwen_vl::check_rank(fc1_weight, "fc1_weight", 3);
  qwen_vl::check_rank(position, "position", 2);
  qwen_vl::check_rank(patch_weight, "patch_weight", 2);
  const int64_t images = pixels.shape()[0], size = pixels.shape()[2], patches = position.shape()[0];
  const int64_t layers = fc1_weight.shape()[0], mlp = fc1_weight.shape()[1], width = fc1_weight.shape()[2];
  const int64_t grid = std::llround(std::sqrt(static_cast<double>(patches)));
  PD_CHECK(grid * grid == patches && size % grid == 0, "pixels do not divide into the position table's patches");
  PD_CHECK(heads > 0 && width % heads == 0, "width is no multiple of heads");
  QWEN_VL_SHAPE(pixels, images, 3, size, size);
  QWEN_VL_SHAPE(position, patches, width);
  QWEN_VL_SHAPE(qkv_weight, layers, 3 * width, width);
  QWEN_VL_SHAPE(qkv_bias, layers, 3 * width);
  QWEN_VL_SHAPE(out_weight, layers, width, width);
  QWEN_VL_SHAPE(fc1_bias, layers, mlp);
  QWEN_VL_SHAPE(fc2_weight, layers, width, mlp);
  for (const Tensor* vector : {&ln_1_weight, &ln_1_bias, &out_bias, &ln_2_weight, &ln_2_bias, &fc2_bias})
    qwen_vl::check_shape(*vector, "a norm or bias of the encoder", {layers, width});

  const qwen_vl::Values values(patch_weight);
  Tensor out = paddle::empty({images, patches, width}, patch_weight.dtype(), pixels.place());
  QwenVlVisionEncoder p{};
  p.pixels = QWEN_VL_DATA(const float, pixels);
  p.patch_weight = QWEN_VL_VALUES(values, patch_weight);
  p.position = QWEN_VL_VALUES(values, position);
  p.ln_pre_weight = QWEN_VL_VALUES(values, ln_pre_weight);
  p.ln_pre_bias = QWEN_VL_VALUES(values, ln_pre_bias);
  p.ln_1_weight = QWEN_VL_VALUES(values, ln_1_weight);
  p.ln_1_bias = QWEN_VL_VALUES(values, ln_1_bias);
  p.qkv_weight = QWEN_VL_VALUES(values, qkv_weight);
  p.qkv_bias = QWEN_VL_VALUES(values, qkv_bias);
  p.out_weight = QWEN_VL_VALUES(values, out_weight);
  p.out_bias = QWEN_VL_VALUES(values, out_bias);
  p.ln_2_weight = QWEN_VL_VALUES(values, ln_2_weight);
  p.ln_2_bias = QWEN_VL_VALUES(values, ln_2_bias);
  p.fc1_weight = QWEN_VL_VALUES(values, fc1_weight);
  p.fc1_bias = QWEN_VL_VALUES(values, fc1_bias);
  p.fc2_weight = QWEN_VL_VALUES(values, fc2_weight);
  p.fc2_bias = QWEN_VL_VALUES(values, fc2_bias);
  p.y = out.data();
  p.images = images, p.image_size = size, p.patch_size = size / grid, p.patch_columns = patch_weight.shape()[1];
  p.width = width, p.layers = layers, p.heads = heads, p.mlp_width = mlp;
  p.epsilon = eps, p.dtype = values.dtype();
  PD_CHECK(p.patch_columns >= 3 * p.patch_size * p.patch_size, "patch_weight has too few columns");
  if (values.gpu()) {
    QWEN_VL_LAUNCH("qwen_vl_vision_encoder", pixels, p, qwen_vl_vision_encoder);
  } else {
    qwen_vl::cpu::vision_encoder(p);
  }
  return {out};
}

std::vector<std::vector<int64_t>> infer_shape(const std::vector<int64_t>& pixels, const std::vector<int64_t>&,
                                              const std::vector<int64_t>& position) {
  return {{pixels[0], position[0], position[1]}};
}

std::vector<paddle::DataType> infer_dtype(const paddle::DataType&, const paddle::DataType& patch_weight) {
  return {patch_weight};
}

}  // namespace

PD_BUILD_OP(qwen_vl_vision_encoder)
    .Inputs({"pixels", "patch_weight", "position", "ln_pre_weight", "ln_pre_bias", "ln_1_weight", "ln_1_bias",
             "qkv_weight", "qkv_bias", "out_weight", "out_bias", "ln_2_weight", "ln_2_bias", "fc1_weight", "fc1_bias",
             "fc2_weight", "fc2_bias"})
    .Outputs({"out"})
    .Attrs({"heads: int", "eps: float"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(infer_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(infer_dtype));

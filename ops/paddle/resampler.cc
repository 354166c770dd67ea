// Binding of the resampler: checks and dispatch.
#include "ops/paddle/checks.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/launch.h"

namespace {

using paddle::Tensor;

void forward(const Tensor& features, const Tensor& kv_proj_weight, const Tensor& ln_kv_weight, const Tensor& ln_kv_bias,
             const Tensor& query, const Tensor& key_value_weight, const Tensor& key_bias, const Tensor& value_bias,
             const Tensor& out_weight, const Tensor& out_bias, const Tensor& ln_post_weight, const Tensor& ln_post_bias,
             const Tensor& proj_weight, Tensor& image_features, int heads, float eps) {
  qwen_vl::check_rank(features, "features", 3);
  qwen_vl::check_rank(query, "query", 2);
  const int64_t images = features.shape()[0], patches = features.shape()[1], vision_width = features.shape()[2];
  const int64_t queries = query.shape()[0], width = query.shape()[1];
  PD_CHECK(heads > 0 && width % heads == 0, "width is no multiple of heads");
  QWEN_VL_SHAPE(kv_proj_weight, width, vision_width);
  QWEN_VL_SHAPE(key_value_weight, 2 * width, width);
  QWEN_VL_SHAPE(key_bias, patches, width);
  QWEN_VL_SHAPE(out_weight, width, width);
  QWEN_VL_SHAPE(proj_weight, width, width);
  QWEN_VL_SHAPE(image_features, images, queries, width);
  for (const Tensor* vector : {&ln_kv_weight, &ln_kv_bias, &value_bias, &out_bias, &ln_post_weight, &ln_post_bias})
    qwen_vl::check_shape(*vector, "a norm or bias of the resampler", {width});

  const qwen_vl::Values values(query);
  QwenVlResampler p{};
  p.x = QWEN_VL_VALUES(values, features);
  p.kv_proj_weight = QWEN_VL_VALUES(values, kv_proj_weight);
  p.ln_kv_weight = QWEN_VL_VALUES(values, ln_kv_weight);
  p.ln_kv_bias = QWEN_VL_VALUES(values, ln_kv_bias);
  p.query = QWEN_VL_VALUES(values, query);
  p.key_value_weight = QWEN_VL_VALUES(values, key_value_weight);
  p.key_bias = QWEN_VL_VALUES(values, key_bias);
  p.value_bias = QWEN_VL_VALUES(values, value_bias);
  p.out_weight = QWEN_VL_VALUES(values, out_weight);
  p.out_bias = QWEN_VL_VALUES(values, out_bias);
  p.ln_post_weight = QWEN_VL_VALUES(values, ln_post_weight);
  p.ln_post_bias = QWEN_VL_VALUES(values, ln_post_bias);
  p.proj_weight = QWEN_VL_VALUES(values, proj_weight);
  p.y = QWEN_VL_VALUES(values, image_features);
  p.images = images, p.patches = patches, p.width = vision_width, p.embed = width, p.queries = queries, p.heads = heads;
  p.epsilon = eps, p.dtype = values.dtype();
  if (values.gpu()) {
    QWEN_VL_LAUNCH("qwen_vl_resampler", features, p, qwen_vl_resampler);
  } else {
    qwen_vl::cpu::resampler(p);
  }
}

}  // namespace

// Without plain outputs Paddle takes shapes and types of the results from the inputs that they replace.
PD_BUILD_OP(qwen_vl_resampler)
    .Inputs({"features", "kv_proj_weight", "ln_kv_weight", "ln_kv_bias", "query", "key_value_weight", "key_bias",
             "value_bias", "out_weight", "out_bias", "ln_post_weight", "ln_post_bias", "proj_weight", "image_features"})
    .Outputs({"image_features_out"})
    .Attrs({"heads: int", "eps: float"})
    .SetInplaceMap({{"image_features", "image_features_out"}})
    .SetKernelFn(PD_KERNEL(forward));

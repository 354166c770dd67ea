// Binding of the embedding with image features: checks and dispatch.
#include "ops/paddle/checks.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/launch.h"

namespace {

using paddle::Tensor;

std::vector<Tensor> forward(const Tensor& tokens, const Tensor& image_features, const Tensor& image_starts,
                            const Tensor& token_embedding) {
  qwen_vl::check_rank(tokens, "tokens", 2);
  qwen_vl::check_rank(image_features, "image_features", 3);
  qwen_vl::check_rank(token_embedding, "token_embedding", 2);
  const int64_t batch = tokens.shape()[0], columns = tokens.shape()[1];
  const int64_t vocab = token_embedding.shape()[0], hidden = token_embedding.shape()[1];
  const int64_t images = image_features.shape()[0], queries = image_features.shape()[1];
  QWEN_VL_SHAPE(image_features, images, queries, hidden);
  QWEN_VL_SHAPE(image_starts, images, 2);

  const qwen_vl::Values values(token_embedding);
  Tensor out = paddle::empty({batch, columns, hidden}, token_embedding.dtype(), tokens.place());
  QwenVlEmbedding p{};
  p.tokens = QWEN_VL_DATA(const long long, tokens);
  p.table = QWEN_VL_VALUES(values, token_embedding);
  p.features = QWEN_VL_VALUES(values, image_features);
  p.image_starts = QWEN_VL_DATA(const int, image_starts);
  p.hidden = out.data();
  p.batch = batch, p.seq = columns, p.vocab = vocab, p.hidden_size = hidden;
  p.images = images, p.features_per_image = queries;
  p.dtype = values.dtype();
  if (values.gpu()) {
    QWEN_VL_LAUNCH_PLAIN("qwen_vl_embedding", tokens, p, qwen_vl_embedding);
  } else {
    qwen_vl::cpu::embedding(p);
  }
  return {out};
}

std::vector<std::vector<int64_t>> infer_shape(const std::vector<int64_t>& tokens, const std::vector<int64_t>&,
                                              const std::vector<int64_t>&,
                                              const std::vector<int64_t>& token_embedding) {
  return {{tokens[0], tokens[1], token_embedding[1]}};
}

std::vector<paddle::DataType> infer_dtype(const paddle::DataType&, const paddle::DataType&, const paddle::DataType&,
                                          const paddle::DataType& token_embedding) {
  return {token_embedding};
}

}  // namespace

PD_BUILD_OP(qwen_vl_embedding)
    .Inputs({"tokens", "image_features", "image_starts", "token_embedding"})
    .Outputs({"out"})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(infer_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(infer_dtype));

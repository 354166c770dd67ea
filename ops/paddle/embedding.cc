// Binding of the embedding with image features: checks and dispatch.
#include "ops/paddle/checks.h"
#include "ops/paddle/cpu/operators.h"

namespace {

using paddle::Tensor;

std::vector<Tensor> forward(const Tensor& tokens, const Tensor& image_features, const Tensor& image_starts,
                            const Tensor& token_embedding) {
  qwen_vl::check_place(tokens, "qwen_vl_embedding");
  qwen_vl::check_rank(tokens, "tokens", 2);
  qwen_vl::check_rank(image_features, "image_features", 3);
  qwen_vl::check_rank(token_embedding, "token_embedding", 2);
  const int64_t batch = tokens.shape()[0], columns = tokens.shape()[1];
  const int64_t vocab = token_embedding.shape()[0], hidden = token_embedding.shape()[1];
  const int64_t images = image_features.shape()[0], queries = image_features.shape()[1];
  QWEN_VL_SHAPE(image_features, images, queries, hidden);
  QWEN_VL_SHAPE(image_starts, images, 2);

  Tensor out = paddle::empty({batch, columns, hidden}, token_embedding.dtype(), tokens.place());
  qwen_vl::cpu::Embedding p{};
  p.tokens = qwen_vl::data<int64_t>(tokens, "tokens");
  p.token_embedding = QWEN_VL_FLOATS(token_embedding);
  p.image_features = QWEN_VL_FLOATS(image_features);
  p.image_starts = qwen_vl::data<int32_t>(image_starts, "image_starts");
  p.out = out.data<float>();
  p.batch = batch, p.columns = columns, p.vocab = vocab, p.hidden = hidden, p.images = images, p.queries = queries;
  qwen_vl::cpu::embedding(p);
  return {out};
}

std::vector<std::vector<int64_t>> infer_shape(const std::vector<int64_t>& tokens, const std::vector<int64_t>&,
                                              const std::vector<int64_t>&, const std::vector<int64_t>& token_embedding) {
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

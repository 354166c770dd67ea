// Binding of the final norm, output projection and token choice: checks and dispatch. The generation's state is
// updated in place.
#include <tuple>

#include "ops/kernels/sampling/arithmetic.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/decode.h"
#include "ops/paddle/launch.h"
#include "ops/paddle/matrices.h"

namespace {

using paddle::Tensor;

std::vector<Tensor> forward(const Tensor& hidden, const Tensor& lengths, const Tensor& logit_columns,
                            const Tensor& stop_tokens, const Tensor& ln_f_weight, const Tensor& lm_head_weight,
                            const paddle::optional<std::vector<Tensor>>& extra, Tensor& positions, Tensor& next_tokens,
                            Tensor& generated, Tensor& counts, Tensor& finished, paddle::optional<Tensor>& sampling,
                            float eps, std::string format) {
  qwen_vl::check_rank(hidden, "hidden", 3);
  qwen_vl::check_rank(logit_columns, "logit_columns", 2);
  qwen_vl::check_rank(stop_tokens, "stop_tokens", 1);
  qwen_vl::check_rank(lm_head_weight, "lm_head_weight", 2);
  qwen_vl::check_rank(generated, "generated", 2);
  const int64_t batch = hidden.shape()[0], columns = hidden.shape()[1], width = hidden.shape()[2];
  const int64_t wanted = logit_columns.shape()[1], vocab = lm_head_weight.shape()[0], capacity = generated.shape()[1];
  const qwen_vl::Values values(ln_f_weight);
  qwen_vl::Matrices matrices(values, format, extra);
  QWEN_VL_SHAPE(lengths, batch);
  QWEN_VL_SHAPE(logit_columns, batch, wanted);
  QWEN_VL_SHAPE(ln_f_weight, width);
  QWEN_VL_SHAPE(positions, batch);
  QWEN_VL_SHAPE(next_tokens, batch, 1);
  QWEN_VL_SHAPE(generated, batch, capacity);
  QWEN_VL_SHAPE(counts, batch);
  QWEN_VL_SHAPE(finished, batch);
  const bool samples = sampling && sampling->numel() > 1;
  if (samples) qwen_vl::check_shape(*sampling, "sampling", {batch, qwen::sampling_width(vocab)});

  Tensor logits = paddle::empty({batch, wanted, vocab}, paddle::DataType::FLOAT32, hidden.place());
  QwenVlLmHead p{};
  p.x = QWEN_VL_VALUES(values, hidden);
  p.lengths = QWEN_VL_DATA(const int, lengths);
  p.logit_columns = QWEN_VL_DATA(const int, logit_columns);
  p.stop_tokens = QWEN_VL_DATA(const long long, stop_tokens);
  p.ln_f_weight = QWEN_VL_VALUES(values, ln_f_weight);
  std::tie(p.lm_head_weight, p.lm_head_extra) = QWEN_VL_MATRIX(matrices, lm_head_weight, vocab, width);
  p.positions = QWEN_VL_DATA(int, positions);
  p.next_tokens = QWEN_VL_DATA(long long, next_tokens);
  p.generated = QWEN_VL_DATA(long long, generated);
  p.counts = QWEN_VL_DATA(int, counts);
  p.finished = QWEN_VL_DATA(int, finished);
  p.logits = logits.data<float>();
  p.batch = batch, p.seq = columns, p.columns = wanted, p.hidden = width, p.vocab = vocab;
  p.stop_count = stop_tokens.shape()[0], p.generated_slots = capacity;
  p.epsilon = eps, p.dtype = values.dtype(), p.format = matrices.format();
  p.leave_choice = samples;
  if (values.gpu() && wanted == 1 && qwen_vl::is_decode_step(batch, columns)) {
    qwen_vl::decode_head(hidden, p);
  } else if (values.gpu()) {
    QWEN_VL_LAUNCH("qwen_vl_lm_head", hidden, p, qwen_vl_lm_head);
  } else {
    qwen_vl::cpu::lm_head(p);
  }
  if (!samples) return {logits};

  QwenVlSample s{};
  s.logits = p.logits, s.lengths = p.lengths, s.stop_tokens = p.stop_tokens;
  s.sampling = qwen_vl::data<int>(*sampling, "sampling");
  s.positions = p.positions, s.next_tokens = p.next_tokens, s.generated = p.generated;
  s.counts = p.counts, s.finished = p.finished;
  s.batch = p.batch, s.columns = p.columns, s.vocab = p.vocab;
  s.stop_count = p.stop_count, s.generated_slots = p.generated_slots;
  if (values.gpu()) {
    QWEN_VL_LAUNCH("qwen_vl_lm_head", hidden, s, qwen_vl_sample);
  } else {
    qwen_vl::cpu::sample(s);
  }
  return {logits};
}

std::vector<std::vector<int64_t>> infer_shape(const std::vector<int64_t>& hidden, const std::vector<int64_t>&,
                                              const std::vector<int64_t>& logit_columns, const std::vector<int64_t>&,
                                              const std::vector<int64_t>&, const std::vector<int64_t>& lm_head_weight) {
  return {{hidden[0], logit_columns[1], lm_head_weight[0]}};
}

std::vector<paddle::DataType> infer_dtype() { return {paddle::DataType::FLOAT32}; }

}  // namespace

PD_BUILD_OP(qwen_vl_lm_head)
    .Inputs({"hidden", "lengths", "logit_columns", "stop_tokens", "ln_f_weight", "lm_head_weight",
             paddle::Optional(paddle::Vec("extra")), "positions", "next_tokens", "generated", "counts", "finished",
             paddle::Optional("sampling")})
    .Outputs({"logits", "positions_out", "next_tokens_out", "generated_out", "counts_out", "finished_out",
              paddle::Optional("sampling_out")})
    .Attrs({"eps: float", "format: std::string"})
    .SetInplaceMap({{"positions", "positions_out"},
                    {"next_tokens", "next_tokens_out"},
                    {"generated", "generated_out"},
                    {"counts", "counts_out"},
                    {"finished", "finished_out"},
                    {paddle::Optional("sampling"), paddle::Optional("sampling_out")}})
    .SetKernelFn(PD_KERNEL(forward))
    .SetInferShapeFn(PD_INFER_SHAPE(infer_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(infer_dtype));

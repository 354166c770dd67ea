// set_value_by_flags_and_idx, get_token_penalty_multi_scores, set_stop_value_multi_ends, and the three's _v2.
#include "ops/stock/kernels/generation.h"

#include "ops/stock/bindings/tensors.h"

namespace stock {
namespace {

using paddle::DataType;

const long long* ids_on(const Tensor& tensor, const char* name, const Tensor& on, int64_t count) {
  check_rows(tensor, name, count);
  return data_on<const long long>(tensor, name, on);
}

const float* scores_on(const Tensor& tensor, const char* name, const Tensor& on, int64_t count) {
  check_rows(tensor, name, count);
  return data_on<const float>(tensor, name, on);
}

std::vector<Tensor> note(const Tensor& pre_ids_all, const Tensor& pre_ids_now, const Tensor& step_idx,
                         const Tensor& stop_flags) {
  qwen_vl::check_rank(pre_ids_all, "pre_ids_all", 2);
  const int64_t batch = pre_ids_all.shape()[0];
  check_rows(stop_flags, "stop_flags", batch);
  each(pre_ids_all, batch,
       NoteToken{data_on<long long>(pre_ids_all, "pre_ids_all", pre_ids_all),
                 ids_on(pre_ids_now, "pre_ids_now", pre_ids_all, batch),
                 ids_on(step_idx, "step_idx", pre_ids_all, batch), flags_on(stop_flags, "stop_flags", pre_ids_all),
                 static_cast<int>(pre_ids_all.shape()[1])});
  return {copy(stop_flags)};
}

void note_v2(const Tensor& pre_ids_all, const Tensor& input_ids, const Tensor& seq_lens_this_time,
             const Tensor& seq_lens_encoder, const Tensor& seq_lens_decoder, const Tensor& step_idx,
             const Tensor& stop_flags) {
  qwen_vl::check_rank(pre_ids_all, "pre_ids_all", 2);
  qwen_vl::check_rank(input_ids, "input_ids", 2);
  const int64_t batch = seq_lens_this_time.numel();
  PD_CHECK(pre_ids_all.shape()[0] >= batch && input_ids.shape()[0] >= batch && step_idx.numel() >= batch &&
               stop_flags.numel() >= batch && seq_lens_encoder.numel() >= batch && seq_lens_decoder.numel() >= batch,
           "an input has fewer rows than seq_lens_this_time, ", batch);
  each(pre_ids_all, batch,
       NoteInput{data_on<long long>(pre_ids_all, "pre_ids_all", pre_ids_all),
                 data_on<const long long>(input_ids, "input_ids", pre_ids_all),
                 data_on<const long long>(step_idx, "step_idx", pre_ids_all),
                 data_on<const int>(seq_lens_encoder, "seq_lens_encoder", pre_ids_all),
                 data_on<const int>(seq_lens_decoder, "seq_lens_decoder", pre_ids_all),
                 flags_on(stop_flags, "stop_flags", pre_ids_all), static_cast<int>(pre_ids_all.shape()[1]),
                 static_cast<int>(input_ids.shape()[1])});
}

// In place.
void penalize(const Tensor& logits, const Tensor& pre_ids, const Tensor& penalty_scores, const Tensor& frequency_scores,
              const Tensor& presence_scores, const Tensor& cur_len, const Tensor& min_len, const Tensor& eos_token_id) {
  qwen_vl::check_rank(pre_ids, "pre_ids", 2);
  qwen_vl::check_rank(logits, "logits", 2);
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1], columns = pre_ids.shape()[1];
  float* const values = qwen_vl::data<float>(logits, "logits");
  const long long* const lengths = ids_on(cur_len, "cur_len", logits, batch);
  each(logits, batch,
       HoldEnds{values, lengths, ids_on(min_len, "min_len", logits, batch),
                data_on<const long long>(eos_token_id, "eos_token_id", logits), vocabulary,
                static_cast<int>(eos_token_id.numel())});
  each(logits, batch * columns,
       PenalizeRepeats{values, ids_on(pre_ids, "pre_ids", logits, batch * columns), lengths,
                       scores_on(penalty_scores, "penalty_scores", logits, batch),
                       scores_on(frequency_scores, "frequency_scores", logits, batch),
                       scores_on(presence_scores, "presence_scores", logits, batch), vocabulary,
                       static_cast<int>(columns)});
}

std::vector<Tensor> penalty(const Tensor& pre_ids, const Tensor& logits, const Tensor& penalty_scores,
                            const Tensor& frequency_scores, const Tensor& presence_scores, const Tensor& cur_len,
                            const Tensor& min_len, const Tensor& eos_token_id) {
  Tensor scores = copy(logits);
  penalize(scores, pre_ids, penalty_scores, frequency_scores, presence_scores, cur_len, min_len, eos_token_id);
  return {scores};
}

void penalty_v2(const Tensor& pre_ids, const Tensor& logits, const Tensor& penalty_scores,
                const Tensor& frequency_scores, const Tensor& presence_scores, const Tensor& temperatures,
                const Tensor& bad_tokens, const Tensor& cur_len, const Tensor& min_len, const Tensor& eos_token_id) {
  penalize(logits, pre_ids, penalty_scores, frequency_scores, presence_scores, cur_len, min_len, eos_token_id);
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1], bad = bad_tokens.numel();
  each(logits, batch * vocabulary,
       Temper{units<float>(logits), scores_on(temperatures, "temperatures", logits, batch), vocabulary});
  each(logits, batch * bad,
       HoldTokens{units<float>(logits), data_on<const long long>(bad_tokens, "bad_tokens", logits), vocabulary,
                  static_cast<int>(bad)});
}

std::vector<Tensor> stop(const Tensor& topk_ids, const Tensor& stop_flags, const Tensor& end_ids, int64_t mode) {
  PD_CHECK(mode == 2, "mode is ", mode, ", expected 2: rows stop by stop_flags alone");
  PD_CHECK(end_ids.numel() > 0, "end_ids is empty");
  check_rows(stop_flags, "stop_flags", topk_ids.numel());
  Tensor tokens = copy(topk_ids), stopped = copy(stop_flags);
  each(topk_ids, topk_ids.numel(),
       StopAtEnds{qwen_vl::data<long long>(tokens, "topk_ids"), flags_on(stopped, "stop_flags", topk_ids),
                  data_on<const long long>(end_ids, "end_ids", topk_ids), static_cast<int>(end_ids.numel())});
  return {tokens, stopped};
}

void stop_v2(const Tensor& topk_ids, const Tensor& stop_flags, const Tensor& seq_lens, const Tensor& end_ids,
             const Tensor& next_tokens) {
  PD_CHECK(end_ids.numel() > 0, "end_ids is empty");
  const int64_t batch = topk_ids.numel();
  check_rows(stop_flags, "stop_flags", batch);
  check_rows(seq_lens, "seq_lens", batch);
  check_rows(next_tokens, "next_tokens", batch);
  each(topk_ids, batch,
       StopAtEndsNext{qwen_vl::data<long long>(topk_ids, "topk_ids"),
                      data_on<long long>(next_tokens, "next_tokens", topk_ids),
                      flags_on(stop_flags, "stop_flags", topk_ids), data_on<const int>(seq_lens, "seq_lens", topk_ids),
                      data_on<const long long>(end_ids, "end_ids", topk_ids), static_cast<int>(end_ids.numel())});
}

using Type = DataType;

std::vector<Shape> note_shape(const Shape&, const Shape&, const Shape&, const Shape& stop_flags) {
  return {stop_flags};
}
std::vector<Type> note_type(const Type&, const Type&, const Type&, const Type& stop_flags) { return {stop_flags}; }

std::vector<Shape> penalty_shape(const Shape&, const Shape& logits, const Shape&, const Shape&, const Shape&,
                                 const Shape&, const Shape&, const Shape&) {
  return {logits};
}
std::vector<Type> penalty_type(const Type&, const Type& logits, const Type&, const Type&, const Type&, const Type&,
                               const Type&, const Type&) {
  return {logits};
}

std::vector<Shape> stop_shape(const Shape& topk_ids, const Shape& stop_flags, const Shape&) {
  return {topk_ids, stop_flags};
}
std::vector<Type> stop_type(const Type& topk_ids, const Type& stop_flags, const Type&) {
  return {topk_ids, stop_flags};
}

}  // namespace
}  // namespace stock

PD_BUILD_OP(set_value_by_flags_and_idx)
    .Inputs({"pre_ids_all", "pre_ids_now", "step_idx", "stop_flags"})
    .Outputs({"stop_flags_out"})
    .SetKernelFn(PD_KERNEL(stock::note))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::note_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::note_type));

PD_BUILD_OP(set_value_by_flags_and_idx_v2)
    .Inputs({"pre_ids_all", "input_ids", "seq_lens_this_time", "seq_lens_encoder", "seq_lens_decoder", "step_idx",
             "stop_flags"})
    .Outputs({"pre_ids_all_out"})
    .SetInplaceMap({{"pre_ids_all", "pre_ids_all_out"}})
    .SetKernelFn(PD_KERNEL(stock::note_v2));

PD_BUILD_OP(get_token_penalty_multi_scores)
    .Inputs({"pre_ids", "logits", "penalty_scores", "frequency_scores", "presence_scores", "cur_len", "min_len",
             "eos_token_id"})
    .Outputs({"logits_out"})
    .SetKernelFn(PD_KERNEL(stock::penalty))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::penalty_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::penalty_type));

PD_BUILD_OP(get_token_penalty_multi_scores_v2)
    .Inputs({"pre_ids", "logits", "penalty_scores", "frequency_scores", "presence_scores", "temperatures", "bad_tokens",
             "cur_len", "min_len", "eos_token_id"})
    .Outputs({"logits_out"})
    .SetInplaceMap({{"logits", "logits_out"}})
    .SetKernelFn(PD_KERNEL(stock::penalty_v2));

PD_BUILD_OP(set_stop_value_multi_ends)
    .Inputs({"topk_ids", "stop_flags", "end_ids"})
    .Outputs({"topk_ids_out", "stop_flags_out"})
    .Attrs({"mode: int64_t"})
    .SetKernelFn(PD_KERNEL(stock::stop))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::stop_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::stop_type));

PD_BUILD_OP(set_stop_value_multi_ends_v2)
    .Inputs({"topk_ids", "stop_flags", "seq_lens", "end_ids", "next_tokens"})
    .Outputs({"topk_ids_out", "stop_flags_out", "next_tokens_out"})
    .SetInplaceMap({{"topk_ids", "topk_ids_out"}, {"stop_flags", "stop_flags_out"}, {"next_tokens", "next_tokens_out"}})
    .SetKernelFn(PD_KERNEL(stock::stop_v2));

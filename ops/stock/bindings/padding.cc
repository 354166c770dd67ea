// get_padding_offset, get_padding_offset_v2, rebuild_padding, rebuild_padding_v2.
#include "ops/stock/kernels/padding.h"

#include "ops/stock/bindings/tensors.h"

namespace stock {
namespace {

using paddle::DataType;

std::vector<Tensor> pack(const Tensor& input_ids, const Tensor& cum_offsets, const Tensor& token_num,
                         const Tensor& seq_len) {
  qwen_vl::check_rank(input_ids, "input_ids", 2);
  const int64_t batch = input_ids.shape()[0], columns = input_ids.shape()[1];
  check_rows(cum_offsets, "cum_offsets", batch);
  check_rows(seq_len, "seq_len", batch);
  check_rows(token_num, "token_num", 1);
  const int* const lengths = data_on<const int>(seq_len, "seq_len", input_ids);
  const Tensor host = token_num.copy_to(paddle::CPUPlace(), true);
  const int64_t tokens = *qwen_vl::data<const long long>(host, "token_num");
  PD_CHECK(tokens >= 1 && tokens <= batch * columns, "token_num is ", tokens, ", expected 1 to ", batch * columns);

  Tensor packed = zeros({tokens}, DataType::INT64, input_ids), offset = zeros({tokens}, DataType::INT32, input_ids);
  Tensor padding = zeros({batch}, DataType::INT32, input_ids);
  each(input_ids, batch * columns,
       PackTokens{data_on<const long long>(input_ids, "input_ids", input_ids), lengths, units<long long>(packed),
                  units<int>(offset), static_cast<int>(columns), tokens});
  each(input_ids, batch, RowPadding{lengths, units<int>(padding), static_cast<int>(columns)});
  return {packed, padding, offset};
}

std::vector<Tensor> pack_v2(const Tensor& input_ids, const Tensor& cum_offsets, const Tensor& token_num,
                            const Tensor& seq_len) {
  std::vector<Tensor> packed = pack(input_ids, cum_offsets, token_num, seq_len);
  const int64_t starts = input_ids.shape()[0] + 1;
  Tensor cu_seqlens_q = zeros({starts}, DataType::INT32, input_ids);
  each(input_ids, starts, RowStarts{data_on<const int>(seq_len, "seq_len", input_ids), units<int>(cu_seqlens_q)});
  packed.push_back(cu_seqlens_q);
  packed.push_back(copy(cu_seqlens_q));
  return packed;
}

Tensor last_tokens(const Tensor& tmp_out, const Tensor& cum_offsets, const Tensor& lengths, const int* decoding,
                   int64_t columns) {
  qwen_vl::check_rank(tmp_out, "tmp_out", 2);
  const int64_t batch = lengths.numel(), width = tmp_out.shape()[1];
  check_rows(cum_offsets, "cum_offsets", batch);
  Tensor last = paddle::empty({batch, width}, tmp_out.dtype(), tmp_out.place());
  with_unit(tmp_out.dtype(), width, [&](auto unit) {
    using Unit = decltype(unit);
    const int count = unit_count<Unit>(tmp_out.dtype(), width);
    each(tmp_out, batch * count,
         LastTokens<Unit>{units<const Unit>(tmp_out), units<Unit>(last),
                          data_on<const int>(cum_offsets, "cum_offsets", tmp_out),
                          data_on<const int>(lengths, "seq_lens", tmp_out), decoding, static_cast<int>(columns), count,
                          tmp_out.shape()[0]});
  });
  return last;
}

std::vector<Tensor> rebuild(const Tensor& tmp_out, const Tensor& cum_offsets, const Tensor& seq_lens,
                            const Tensor& input_ids) {
  qwen_vl::check_rank(input_ids, "input_ids", 2);
  return {last_tokens(tmp_out, cum_offsets, seq_lens, nullptr, input_ids.shape()[1])};
}

std::vector<Tensor> rebuild_v2(const Tensor& tmp_out, const Tensor& cum_offsets, const Tensor& seq_lens_decoder,
                               const Tensor& seq_lens_encoder, int max_input_length) {
  check_rows(seq_lens_decoder, "seq_lens_decoder", seq_lens_encoder.numel());
  return {last_tokens(tmp_out, cum_offsets, seq_lens_encoder,
                      data_on<const int>(seq_lens_decoder, "seq_lens_decoder", tmp_out), max_input_length)};
}

using Shapes = std::vector<Shape>;
using Types = std::vector<DataType>;

Shapes pack_shape(const Shape& ids, const Shape&, const Shape&, const Shape&) { return {{-1}, {ids[0]}, {-1}}; }
Types pack_type(const DataType& ids, const DataType&, const DataType&, const DataType&) {
  return {ids, DataType::INT32, DataType::INT32};
}

Shapes pack_v2_shape(const Shape& ids, const Shape&, const Shape&, const Shape&) {
  const int64_t starts = ids[0] < 0 ? -1 : ids[0] + 1;
  return {{-1}, {ids[0]}, {-1}, {starts}, {starts}};
}
Types pack_v2_type(const DataType& ids, const DataType&, const DataType&, const DataType&) {
  return {ids, DataType::INT32, DataType::INT32, DataType::INT32, DataType::INT32};
}

Shapes rebuild_shape(const Shape& tmp_out, const Shape&, const Shape& lengths, const Shape&) {
  return {{lengths[0], tmp_out[1]}};
}
Types rebuild_type(const DataType& tmp_out, const DataType&, const DataType&, const DataType&) { return {tmp_out}; }

Shapes rebuild_v2_shape(const Shape& tmp_out, const Shape&, const Shape&, const Shape& lengths, int) {
  return {{lengths[0], tmp_out[1]}};
}

}  // namespace
}  // namespace stock

PD_BUILD_OP(get_padding_offset)
    .Inputs({"input_ids", "cum_offsets", "token_num", "seq_len"})
    .Outputs({"x_remove_padding", "cum_offsets_out", "padding_offset"})
    .SetKernelFn(PD_KERNEL(stock::pack))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::pack_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::pack_type));

PD_BUILD_OP(get_padding_offset_v2)
    .Inputs({"input_ids", "cum_offsets", "token_num", "seq_len"})
    .Outputs({"x_remove_padding", "cum_offsets_out", "padding_offset", "cu_seqlens_q", "cu_seqlens_k"})
    .SetKernelFn(PD_KERNEL(stock::pack_v2))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::pack_v2_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::pack_v2_type));

PD_BUILD_OP(rebuild_padding)
    .Inputs({"tmp_out", "cum_offsets", "seq_lens", "input_ids"})
    .Outputs({"out"})
    .SetKernelFn(PD_KERNEL(stock::rebuild))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::rebuild_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::rebuild_type));

PD_BUILD_OP(rebuild_padding_v2)
    .Inputs({"tmp_out", "cum_offsets", "seq_lens_decoder", "seq_lens_encoder"})
    .Outputs({"out"})
    .Attrs({"max_input_length: int"})
    .SetKernelFn(PD_KERNEL(stock::rebuild_v2))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::rebuild_v2_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::rebuild_type));

// qkv_transpose_split, transpose_remove_padding.
#include "ops/stock/kernels/heads.h"

#include "ops/stock/bindings/tensors.h"

namespace stock {
namespace {

using paddle::DataType;

std::vector<Tensor> split(const Tensor& qkv, const Tensor& padding_offset, const Tensor& seq_lens,
                          const Tensor& input_ids, int num_head, int head_size) {
  qwen_vl::check_rank(input_ids, "input_ids", 2);
  const int64_t tokens = padding_offset.numel(), batch = seq_lens.numel(), columns = input_ids.shape()[1];
  qwen_vl::check_shape(qkv, "qkv", {tokens, int64_t{3} * num_head * head_size});
  const Shape shape{batch, num_head, columns, head_size};
  Tensor q = zeros(shape, qkv.dtype(), qkv), k = zeros(shape, qkv.dtype(), qkv), v = zeros(shape, qkv.dtype(), qkv);
  with_unit(qkv.dtype(), head_size, [&](auto unit) {
    using Unit = decltype(unit);
    const int count = unit_count<Unit>(qkv.dtype(), head_size);
    each(qkv, tokens * 3 * num_head * count,
         SplitHeads<Unit>{units<const Unit>(qkv), units<Unit>(q), units<Unit>(k), units<Unit>(v),
                          data_on<const int>(padding_offset, "padding_offset", qkv),
                          data_on<const int>(seq_lens, "seq_lens", qkv), static_cast<int>(batch), num_head,
                          static_cast<int>(columns), count});
  });
  return {q, k, v};
}

std::vector<Tensor> merge(const Tensor& input, const Tensor& seq_lens, const Tensor& padding_offset) {
  qwen_vl::check_rank(input, "input", 4);
  const int64_t batch = input.shape()[0], heads = input.shape()[1], columns = input.shape()[2];
  const int64_t width = input.shape()[3], tokens = padding_offset.numel();
  check_rows(seq_lens, "seq_lens", batch);
  Tensor packed = paddle::empty({tokens, heads * width}, input.dtype(), input.place());
  with_unit(input.dtype(), width, [&](auto unit) {
    using Unit = decltype(unit);
    const int count = unit_count<Unit>(input.dtype(), width);
    each(input, tokens * heads * count,
         MergeHeads<Unit>{units<const Unit>(input), units<Unit>(packed),
                          data_on<const int>(padding_offset, "padding_offset", input),
                          data_on<const int>(seq_lens, "seq_lens", input), static_cast<int>(batch),
                          static_cast<int>(heads), static_cast<int>(columns), count});
  });
  return {packed};
}

std::vector<Shape> split_shape(const Shape&, const Shape&, const Shape& seq_lens, const Shape& input_ids, int num_head,
                               int head_size) {
  const Shape shape{seq_lens[0], num_head, input_ids[1], head_size};
  return {shape, shape, shape};
}
std::vector<DataType> split_type(const DataType& qkv, const DataType&, const DataType&, const DataType&) {
  return {qkv, qkv, qkv};
}

std::vector<Shape> merge_shape(const Shape& input, const Shape&, const Shape& padding_offset) {
  return {{padding_offset[0], input[1] < 0 || input[3] < 0 ? -1 : input[1] * input[3]}};
}
std::vector<DataType> merge_type(const DataType& input, const DataType&, const DataType&) { return {input}; }

}  // namespace
}  // namespace stock

PD_BUILD_OP(qkv_transpose_split)
    .Inputs({"qkv", "padding_offset", "seq_lens", "input_ids"})
    .Outputs({"q_out", "k_out", "v_out"})
    .Attrs({"num_head: int", "head_size: int"})
    .SetKernelFn(PD_KERNEL(stock::split))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::split_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::split_type));

PD_BUILD_OP(transpose_remove_padding)
    .Inputs({"input", "seq_lens", "padding_offset"})
    .Outputs({"fmha_out"})
    .SetKernelFn(PD_KERNEL(stock::merge))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::merge_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::merge_type));

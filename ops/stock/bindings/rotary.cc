// fused_get_rotary_embedding, encode_rotary_qk.
#include "ops/stock/kernels/rotary.h"

#include "ops/stock/bindings/tensors.h"
#include "ops/stock/kernels/half.h"

#ifdef PADDLE_WITH_CUDA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace stock {
namespace {

using paddle::DataType;

std::vector<Tensor> table(const Tensor& input_ids, const Tensor& position_ids, const Tensor& head_dim_shape_tensor,
                          int prompt_num, bool use_neox) {
  qwen_vl::check_rank(input_ids, "input_ids", 2);
  qwen_vl::check_rank(position_ids, "position_ids", 2);
  const int64_t batch = input_ids.shape()[0], columns = input_ids.shape()[1], width = head_dim_shape_tensor.numel();
  const int64_t positions = position_ids.shape()[1];
  PD_CHECK(width % 2 == 0, "head_dim_shape_tensor has an odd length, ", width);
  PD_CHECK(position_ids.shape()[0] == batch && prompt_num >= 0 && prompt_num + columns <= positions,
           "position_ids has shape ", qwen_vl::to_string(position_ids.shape()), ", too small for ", batch, " rows of ",
           columns, " tokens after ", prompt_num);
  Tensor cos_sin = paddle::empty({2, batch, 1, columns, width}, DataType::FLOAT32, position_ids.place());
  each(position_ids, batch * columns * width / 2,
       RotaryTable{qwen_vl::data<const long long>(position_ids, "position_ids"), units<float>(cos_sin),
                   static_cast<int>(batch), static_cast<int>(columns), static_cast<int>(positions), prompt_num,
                   static_cast<int>(width), use_neox});
  return {cos_sin};
}

template <typename T>
RotateHeads<T> rotation(const Tensor& x, const Tensor& rotary_emb, const Tensor& seq_lens, int dims, bool neox) {
  const Shape shape = x.shape();
  return {units<T>(x),
          data_on<const float>(rotary_emb, "rotary_emb", x),
          data_on<const int>(seq_lens, "seq_lens", x),
          static_cast<int>(shape[0]),
          static_cast<int>(shape[1]),
          static_cast<int>(shape[2] * dims),
          static_cast<int>(shape[3] / dims),
          dims,
          neox};
}

template <typename T>
void rotate_cpu(const Tensor& x, const Tensor& rotary_emb, const Tensor& seq_lens, int dims, bool neox) {
  each_cpu(x.numel() / 2, rotation<T>(x, rotary_emb, seq_lens, dims, neox));
}

template <typename T>
void rotate_gpu(const Tensor& x, const Tensor& rotary_emb, const Tensor& seq_lens, int dims, bool neox) {
  STOCK_ON_GPU(each_cuda(x.numel() / 2, rotation<T>(x, rotary_emb, seq_lens, dims, neox), x.stream()));
}

#ifdef PADDLE_WITH_CUDA
using DeviceHalf = __half;
using DeviceBfloat = __nv_bfloat16;
#else
using DeviceHalf = CpuFloat16;
using DeviceBfloat = CpuBfloat16;
#endif

void rotate(const Tensor& x, const char* name, const Tensor& rotary_emb, const Tensor& seq_lens, int dims, bool neox) {
  qwen_vl::check_rank(x, name, 4);
  const Shape shape = x.shape();
  PD_CHECK(dims >= 1 && shape[3] % (2 * dims) == 0, name, " has heads of ", shape[3],
           ", no multiple of twice rotary_emb_dims");
  check_rows(seq_lens, "seq_lens", shape[0]);
  check_rows(rotary_emb, "rotary_emb", 2 * shape[0] * shape[2] * shape[3]);
  const bool cpu = x.is_cpu();
  switch (x.dtype()) {
    case DataType::FLOAT32: return (cpu ? rotate_cpu<float> : rotate_gpu<float>)(x, rotary_emb, seq_lens, dims, neox);
    case DataType::FLOAT16:
      return (cpu ? rotate_cpu<CpuFloat16> : rotate_gpu<DeviceHalf>)(x, rotary_emb, seq_lens, dims, neox);
    case DataType::BFLOAT16:
      return (cpu ? rotate_cpu<CpuBfloat16> : rotate_gpu<DeviceBfloat>)(x, rotary_emb, seq_lens, dims, neox);
    default: PD_THROW(name, " has type ", phi::DataTypeToString(x.dtype()), ", expected float32, float16 or bfloat16");
  }
}

void rotate_qk(const Tensor& q, const Tensor& kv, const Tensor& rotary_emb, const Tensor& seq_lens, int rotary_emb_dims,
               bool use_neox) {
  rotate(q, "q", rotary_emb, seq_lens, rotary_emb_dims, use_neox);
  rotate(kv, "kv", rotary_emb, seq_lens, rotary_emb_dims, use_neox);
}

std::vector<Shape> table_shape(const Shape& input_ids, const Shape& position_ids, const Shape& head_dim) {
  return {{2, position_ids[0], 1, input_ids[1], head_dim[0]}};
}
std::vector<DataType> table_type(const DataType&, const DataType&, const DataType&) { return {DataType::FLOAT32}; }

}  // namespace
}  // namespace stock

PD_BUILD_OP(fused_get_rotary_embedding)
    .Inputs({"input_ids", "position_ids", "head_dim_shape_tensor"})
    .Outputs({"rotary_embedding"})
    .Attrs({"prompt_num: int", "use_neox: bool"})
    .SetKernelFn(PD_KERNEL(stock::table))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::table_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::table_type));

PD_BUILD_OP(encode_rotary_qk)
    .Inputs({"q", "kv", "rotary_emb", "seq_lens"})
    .Outputs({"rotary_q_out", "rotary_kv_out"})
    .Attrs({"rotary_emb_dims: int", "use_neox: bool"})
    .SetInplaceMap({{"q", "rotary_q_out"}, {"kv", "rotary_kv_out"}})
    .SetKernelFn(PD_KERNEL(stock::rotate_qk));

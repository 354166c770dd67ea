// fused_rms_norm, fused_layer_norm: forward alone.
#include "ops/stock/kernels/norm.h"

#include "ops/stock/bindings/tensors.h"
#include "ops/stock/kernels/half.h"
#include "ops/stock/kernels/norm_cpu.h"

namespace stock {
namespace {

using paddle::DataType;

void check_like(const Tensor& tensor, const char* name, const Tensor& x) {
  qwen_vl::check_shape(tensor, name, {x.shape().back()});
  qwen_vl::check_type(tensor, name, x.dtype());
  check_on(tensor, name, x);
}

// {y, mean [rows] with bias, 1 / deviation [rows]}
std::vector<Tensor> norm(const Tensor& x, const Tensor& scale, const Tensor* bias, float epsilon) {
  PD_CHECK(!x.shape().empty(), "x has no dimension");
  check_like(scale, "scale", x);
  if (bias != nullptr) check_like(*bias, "bias", x);
  const int64_t width = x.shape().back(), rows = width == 0 ? 0 : x.numel() / width;
  std::vector<Tensor> outputs{paddle::empty(x.shape(), x.dtype(), x.place())};
  for (int i = 0; i < (bias != nullptr ? 2 : 1); ++i)
    outputs.push_back(paddle::empty({rows}, DataType::FLOAT32, x.place()));
  const Norm all{x.data(),
                 scale.data(),
                 bias != nullptr ? bias->data() : nullptr,
                 outputs[0].data(),
                 bias != nullptr ? units<float>(outputs[1]) : nullptr,
                 units<float>(outputs.back()),
                 rows,
                 static_cast<int>(width),
                 epsilon};
  const bool cpu = x.is_cpu();
  switch (x.dtype()) {
    case DataType::FLOAT32:
      if (cpu) norm_cpu<float>(all);
      else STOCK_ON_GPU(norm_cuda(all, NormType::kFloat32, x.stream()));
      break;
    case DataType::FLOAT16:
      if (cpu) norm_cpu<CpuFloat16>(all);
      else STOCK_ON_GPU(norm_cuda(all, NormType::kFloat16, x.stream()));
      break;
    case DataType::BFLOAT16:
      if (cpu) norm_cpu<CpuBfloat16>(all);
      else STOCK_ON_GPU(norm_cuda(all, NormType::kBfloat16, x.stream()));
      break;
    default: PD_THROW("x has type ", phi::DataTypeToString(x.dtype()), ", expected float32, float16 or bfloat16");
  }
  return outputs;
}

std::vector<Tensor> rms_norm(const Tensor& x, const Tensor& scale, float epsilon) {
  return norm(x, scale, nullptr, epsilon);
}
std::vector<Tensor> layer_norm(const Tensor& x, const Tensor& scale, const Tensor& bias, float epsilon) {
  return norm(x, scale, &bias, epsilon);
}

Shape rows_of(const Shape& x) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < x.size(); ++i) rows = x[i] < 0 || rows < 0 ? -1 : rows * x[i];
  return {rows};
}

std::vector<Shape> rms_shape(const Shape& x, const Shape&, float) { return {x, rows_of(x)}; }
std::vector<DataType> rms_type(const DataType& x, const DataType&) { return {x, DataType::FLOAT32}; }
std::vector<Shape> layer_shape(const Shape& x, const Shape&, const Shape&, float) {
  return {x, rows_of(x), rows_of(x)};
}
std::vector<DataType> layer_type(const DataType& x, const DataType&, const DataType&) {
  return {x, DataType::FLOAT32, DataType::FLOAT32};
}

}  // namespace
}  // namespace stock

PD_BUILD_OP(fused_rms_norm)
    .Inputs({"x", "scale"})
    .Outputs({"y", "invvar"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(stock::rms_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::rms_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::rms_type));

PD_BUILD_OP(fused_layer_norm)
    .Inputs({"x", "scale", "bias"})
    .Outputs({"y", "mean", "invvar"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(stock::layer_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(stock::layer_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(stock::layer_type));

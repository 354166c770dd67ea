// What the bindings share: running a function on a tensor's device, new tensors without Paddle's own kernels.
#pragma once
#include <cstring>

#include "ops/paddle/checks.h"
#include "ops/stock/kernels/each.h"

#ifdef PADDLE_WITH_CUDA
#include <cuda_runtime_api.h>
#endif

namespace stock {

using paddle::Tensor;
using qwen_vl::Shape;

// Fails unless `tensor` has one value for each of `count` rows, whatever its shape.
inline void check_rows(const Tensor& tensor, const char* name, int64_t count) {
  PD_CHECK(tensor.numel() == count, name, " has ", tensor.numel(), " values, expected ", count);
}

inline void check_on(const Tensor& tensor, const char* name, const Tensor& on) {
  PD_CHECK(tensor.place() == on.place(), name, " is on another device than the first input");
}

// Typed data of a tensor that lies on the device of `on`.
template <typename T>
T* data_on(const Tensor& tensor, const char* name, const Tensor& on) {
  check_on(tensor, name, on);
  return qwen_vl::data<T>(tensor, name);
}

inline bool* flags_on(const Tensor& tensor, const char* name, const Tensor& on) {
  check_on(tensor, name, on);
  qwen_vl::check_type(tensor, name, paddle::DataType::BOOL);
  return static_cast<bool*>(const_cast<void*>(tensor.data()));
}

#ifdef PADDLE_WITH_CUDA
inline void check_cuda(int status) {
  PD_CHECK(status == cudaSuccess,
           "a kernel of paddlenlp_ops failed: ", cudaGetErrorString(static_cast<cudaError_t>(status)));
}
#define STOCK_ON_GPU(call) ::stock::check_cuda(call)
#else
#define STOCK_ON_GPU(call) PD_THROW("paddlenlp_ops was built for the CPU only: run `make ops DEVICE=gpu`")
#endif

template <typename Body>
void each(const Tensor& on, int64_t count, const Body& body) {
  if (on.is_cpu()) return each_cpu(count, body);
  STOCK_ON_GPU(each_cuda(count, body, on.stream()));
}

// Paddle's own fill and copy kernels do not exist for every card that these kernels run on.
inline Tensor zeros(const Shape& shape, paddle::DataType type, const Tensor& on) {
  Tensor result = paddle::empty(shape, type, on.place());
  const size_t bytes = result.numel() * phi::SizeOf(type);
  if (on.is_cpu()) {
    std::memset(result.data(), 0, bytes);
  } else {
    STOCK_ON_GPU(cudaMemsetAsync(result.data(), 0, bytes, on.stream()));
  }
  return result;
}

inline Tensor copy(const Tensor& from) {
  Tensor result = paddle::empty(from.shape(), from.dtype(), from.place());
  const size_t bytes = result.numel() * phi::SizeOf(from.dtype());
  if (from.is_cpu()) {
    std::memcpy(result.data(), from.data(), bytes);
  } else {
    STOCK_ON_GPU(cudaMemcpyAsync(result.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, from.stream()));
  }
  return result;
}

// Calls `call` with a value of the unit that rows of `width` elements of `type` can be copied in.
template <typename Call>
void with_unit(paddle::DataType type, int64_t width, Call call) {
  PD_CHECK(type == paddle::DataType::FLOAT32 || type == paddle::DataType::FLOAT16 || type == paddle::DataType::BFLOAT16,
           "the type is ", phi::DataTypeToString(type), ", expected float32, float16 or bfloat16");
  if (width * phi::SizeOf(type) % sizeof(Unit16) == 0) {
    call(Unit16{});
  } else {
    call(Unit2{});
  }
}

template <typename Unit>
Unit* units(const Tensor& tensor) {
  return static_cast<Unit*>(const_cast<void*>(tensor.data()));
}

// Units in `width` elements of `type`.
template <typename Unit>
int unit_count(paddle::DataType type, int64_t width) {
  return width * phi::SizeOf(type) / sizeof(Unit);
}

}  // namespace stock

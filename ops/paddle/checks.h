// What every binding needs: argument checks with messages that name the argument, and typed pointers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "paddle/extension.h"

namespace qwen_vl {

using Shape = std::vector<int64_t>;

inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Fails unless `tensor` has exactly this shape.
inline void check_shape(const paddle::Tensor& tensor, const char* name, const Shape& shape) {
  PD_CHECK(tensor.shape() == shape, name, " has shape ", to_string(tensor.shape()), ", expected ", to_string(shape));
}

inline void check_rank(const paddle::Tensor& tensor, const char* name, size_t rank) {
  PD_CHECK(tensor.shape().size() == rank, name, " has rank ", tensor.shape().size(), ", expected ", rank);
}

// The operators' kernels by place; kernels for other places are chosen here.
inline void check_place(const paddle::Tensor& tensor, const char* op) {
  PD_CHECK(tensor.is_cpu(), op, " was built for the CPU only: run with DEVICE=cpu");
}

// Read-only data of a CPU tensor; fails when the stored type is another.
template <typename T>
const T* data(const paddle::Tensor& tensor, const char* name) {
  PD_CHECK(tensor.dtype() == phi::CppTypeToDataType<T>::Type(), name, " has type ", phi::DataTypeToString(tensor.dtype()),
           ", expected ", phi::DataTypeToString(phi::CppTypeToDataType<T>::Type()), " on the CPU");
  return tensor.data<T>();
}

// Data of a state tensor that the operator updates in place.
template <typename T>
T* state(paddle::Tensor& tensor, const char* name) {
  return const_cast<T*>(data<T>(tensor, name));
}

}  // namespace qwen_vl

// Spell a tensor's name once: checked pointer and checked shape.
#define QWEN_VL_FLOATS(tensor) ::qwen_vl::data<float>(tensor, #tensor)
#define QWEN_VL_SHAPE(tensor, ...) ::qwen_vl::check_shape(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})

// What every binding needs: argument checks with messages that name the argument, and typed pointers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "ops/kernels/common/arguments.h"
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

inline void check_type(const paddle::Tensor& tensor, const char* name, paddle::DataType type) {
  PD_CHECK(tensor.dtype() == type, name, " has type ", phi::DataTypeToString(tensor.dtype()), ", expected ",
           phi::DataTypeToString(type));
}

// Data of a tensor of type T, whatever its place. Pointees are int, long long and float as in the launchers' headers.
template <typename T>
T* data(const paddle::Tensor& tensor, const char* name) {
  using Value = std::remove_const_t<T>;
  constexpr auto type = std::is_same_v<Value, float> ? paddle::DataType::FLOAT32
                        : sizeof(Value) == 4         ? paddle::DataType::INT32
                                                     : paddle::DataType::INT64;
  check_type(tensor, name, type);
  return static_cast<T*>(const_cast<void*>(tensor.data()));
}

// Weights, activations and caches of one call: all of one type and on one device, fp32 on the CPU, half on a GPU.
class Values {
 public:
  explicit Values(const paddle::Tensor& sample) : type_(sample.dtype()), place_(sample.place()) {
    if (gpu()) {
      PD_CHECK(type_ == paddle::DataType::FLOAT16 || type_ == paddle::DataType::BFLOAT16,
               "the GPU kernels take float16 ", "and bfloat16 weights, not ", phi::DataTypeToString(type_),
               ": export with DTYPE=float16 or bfloat16");
    } else {
      PD_CHECK(type_ == paddle::DataType::FLOAT32, "the CPU kernels take float32 weights, not ",
               phi::DataTypeToString(type_), ": export with DTYPE=float32");
    }
  }

  bool gpu() const { return place_.GetType() == phi::AllocationType::GPU; }
  int dtype() const {
    return type_ == paddle::DataType::FLOAT32    ? qwen::kFloat32
           : type_ == paddle::DataType::BFLOAT16 ? qwen::kBfloat16
                                                 : qwen::kFloat16;
  }

  void* operator()(const paddle::Tensor& tensor, const char* name) const { return data(tensor, name, type_); }

  // The same of another type.
  void* data(const paddle::Tensor& tensor, const char* name, paddle::DataType type) const {
    check_type(tensor, name, type);
    PD_CHECK(tensor.place() == place_, name, " is on another device than the weights");
    return const_cast<void*>(tensor.data());
  }

 private:
  paddle::DataType type_;
  phi::Place place_;
};

}  // namespace qwen_vl

// Spell a tensor's name once: checked pointer and checked shape.
#define QWEN_VL_DATA(type, tensor) ::qwen_vl::data<type>(tensor, #tensor)
#define QWEN_VL_VALUES(values, tensor) values(tensor, #tensor)
#define QWEN_VL_SHAPE(tensor, ...) ::qwen_vl::check_shape(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})

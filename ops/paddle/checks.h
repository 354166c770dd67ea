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
      PD_CHECK(type_ == paddle::DataType::FLOAT16 || type_ == paddle::DataType::BFLOAT16, "the GPU kernels take float16 ",
               "and bfloat16 weights, not ", phi::DataTypeToString(type_), ": export with DTYPE=float16 or bfloat16");
    } else {
      PD_CHECK(type_ == paddle::DataType::FLOAT32, "the CPU kernels take float32 weights, not ",
               phi::DataTypeToString(type_), ": export with DTYPE=float32");
    }
  }

  bool gpu() const { return place_.GetType() == phi::AllocationType::GPU; }
  int dtype() const { return type_ == paddle::DataType::BFLOAT16 ? 1 : 0; }  // the launchers' code; unused on the CPU

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

// Matrices of one call: all of them of the values' type, or all in E5M7 (ops/kernels/common/e5m7.h) as INT32.
class Matrices {
 public:
  // `sample` is any one of them.
  Matrices(const Values& values, const paddle::Tensor& sample)
      : values_(values), packed_(sample.dtype() == paddle::DataType::INT32) {
    PD_CHECK(!packed_ || (values.gpu() && values.dtype() == 0), "matrices in E5M7 (int32) are for float16 on a GPU: ",
             "leave them as they were exported");
  }

  bool packed() const { return packed_; }

  // Size of the last dimension of a matrix with so many columns.
  int64_t stored(int64_t columns) const {
    PD_CHECK(!packed_ || columns % kGranule == 0, "matrices in E5M7 have a multiple of ", kGranule, " columns, not ",
             columns);
    return packed_ ? columns / kGranule * kWords : columns;
  }

  // Columns of a matrix, by its shape.
  int64_t columns(const paddle::Tensor& matrix) const {
    const int64_t size = matrix.shape().back();
    return packed_ ? size / kWords * kGranule : size;
  }

  void* operator()(const paddle::Tensor& tensor, const char* name) const {
    return packed_ ? values_.data(tensor, name, paddle::DataType::INT32) : values_(tensor, name);
  }

 private:
  static constexpr int64_t kGranule = 128, kWords = 52;  // columns that are packed together, and their 32-bit words

  const Values& values_;
  bool packed_;
};

}  // namespace qwen_vl

// Spell a tensor's name once: checked pointer and checked shape.
#define QWEN_VL_DATA(type, tensor) ::qwen_vl::data<type>(tensor, #tensor)
#define QWEN_VL_VALUES(values, tensor) values(tensor, #tensor)
#define QWEN_VL_SHAPE(tensor, ...) ::qwen_vl::check_shape(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})

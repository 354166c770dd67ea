// What every binding needs: argument checks with messages that name the argument, and typed pointers.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ops/formats/registry.h"
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
  int dtype() const {  // the launchers' code
    return type_ == paddle::DataType::FLOAT32 ? qwen::kFloat32
           : type_ == paddle::DataType::BFLOAT16 ? qwen::kBfloat16 : qwen::kFloat16;
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

// Matrices of one call, all of them in one weight format, which adds a tensor to each or none.
class Matrices {
 public:
  Matrices(const Values& values, const std::string& format, const paddle::optional<std::vector<paddle::Tensor>>& extra)
      : values_(values), number_(qwen::format_number(format)), extra_(extra ? *extra : std::vector<paddle::Tensor>{}) {
    PD_CHECK(number_ >= 0, "no weight format is called ", format);
    qwen::with_format(number_, [&](auto kept) {
      using Format = decltype(kept);
      PD_CHECK(Format::kOnGpu == values.gpu() && Format::kValues == values.dtype(), "matrices in ", format,
               " are not for these weights and this device: leave them as they were exported");
    });
  }

  int format() const { return number_; }

  // Data of a matrix, or of a stack of them, with `shape` [.., rows, columns], and of what the format adds to it. The
  // matrices are taken in the order in which they were given.
  std::pair<const void*, const void*> operator()(const paddle::Tensor& matrix, const char* name, Shape shape) {
    return qwen::with_format(number_, [&](auto kept) -> std::pair<const void*, const void*> {
      using Format = decltype(kept);
      const int64_t rows = shape[shape.size() - 2], columns = shape.back(), stack = shape.size() > 2 ? shape[0] : 1;
      if constexpr (Format::kPlain) {
        check_shape(matrix, name, shape);
        return {values_(matrix, name), nullptr};
      } else {
        PD_CHECK(rows % Format::kRows == 0 && columns % Format::kColumns == 0, name, " has ", rows, " rows and ", columns,
                 " columns: in ", Format::kName, " they are multiples of ", Format::kRows, " and ", Format::kColumns);
        shape.back() = Format::bytes(columns);
        check_shape(matrix, name, shape);
        const void* const extra = take_extra(name, stack * Format::extra_bytes(rows, columns));
        return {values_.data(matrix, name, paddle::DataType::UINT8), extra};
      }
    });
  }

 private:
  const void* take_extra(const char* name, int64_t bytes) {
    if (bytes == 0) return nullptr;
    PD_CHECK(next_ < extra_.size() && extra_[next_].numel() == bytes, name, " needs ", bytes, " extra bytes");
    return values_.data(extra_[next_++], name, paddle::DataType::UINT8);
  }

  const Values& values_;
  int number_;
  std::vector<paddle::Tensor> extra_;
  size_t next_ = 0;
};

}  // namespace qwen_vl

// Spell a tensor's name once: checked pointer and checked shape.
#define QWEN_VL_DATA(type, tensor) ::qwen_vl::data<type>(tensor, #tensor)
#define QWEN_VL_VALUES(values, tensor) values(tensor, #tensor)
#define QWEN_VL_MATRIX(matrices, tensor, ...) matrices(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})
#define QWEN_VL_SHAPE(tensor, ...) ::qwen_vl::check_shape(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})

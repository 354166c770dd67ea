// The matrices of an operator's weights, in whichever format they are kept.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "ops/formats/registry.h"
#include "ops/paddle/checks.h"

namespace qwen_vl {

// Matrices of one call, all of them in one weight format, which adds a tensor to each or none.
class Matrices {
 public:
  Matrices(const Values& values, const std::string& format, const paddle::optional<std::vector<paddle::Tensor>>& extra)
      : values_(values), number_(qwen::format_number(format)), extra_(extra ? *extra : std::vector<paddle::Tensor>{}) {
    PD_CHECK(number_ >= 0, "no weight format is called ", format);
    qwen::with_format(number_, [&](auto traits) {
      using Format = decltype(traits);
      const bool read = values.gpu() ? Format::kOnGpu && Format::kValues == values.dtype() : Format::kOnCpu;
      PD_CHECK(read, "matrices in ", format,
               " are not for these weights and this device: leave them as they were exported");
    });
  }

  int format() const { return number_; }

  // Data of a matrix, or of a stack of them, with `shape` [.., rows, columns], and of what the format adds to it. The
  // matrices are taken in the order in which they were given.
  std::pair<const void*, const void*> operator()(const paddle::Tensor& matrix, const char* name, Shape shape) {
    return qwen::with_format(number_, [&](auto traits) -> std::pair<const void*, const void*> {
      using Format = decltype(traits);
      const int64_t rows = shape[shape.size() - 2], columns = shape.back(), stack = shape.size() > 2 ? shape[0] : 1;
      if constexpr (Format::kPlain) {
        check_shape(matrix, name, shape);
        return {values_(matrix, name), nullptr};
      } else {
        PD_CHECK(rows % Format::kRows == 0 && columns % Format::kColumns == 0, name, " has ", rows, " rows and ",
                 columns, " columns: in ", Format::kName, " they are multiples of ", Format::kRows, " and ",
                 Format::kColumns);
        shape.back() = Format::row_bytes(columns) / 4;
        check_shape(matrix, name, shape);
        const void* const extra = take_extra(name, stack * Format::extra_bytes(rows, columns));
        return {values_.data(matrix, name, paddle::DataType::INT32), extra};
      }
    });
  }

 private:
  const void* take_extra(const char* name, int64_t bytes) {
    if (bytes == 0) return nullptr;
    PD_CHECK(next_ < extra_.size() && extra_[next_].numel() * 4 == bytes, name, " needs ", bytes, " extra bytes");
    return values_.data(extra_[next_++], name, paddle::DataType::INT32);
  }

  const Values& values_;
  int number_;
  std::vector<paddle::Tensor> extra_;
  size_t next_ = 0;
};

}  // namespace qwen_vl

// Spell a matrix's name once.
#define QWEN_VL_MATRIX(matrices, tensor, ...) matrices(tensor, #tensor, ::qwen_vl::Shape{__VA_ARGS__})

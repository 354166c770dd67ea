// Whole numbers of 8 bits with a scale a row, 128 added where they are stored; the places: ops/formats/row_scaled.h.
// What the fields are: ops/formats/format.h.
#pragma once
#include "ops/formats/row_scaled.h"
#include "ops/formats/row_scaled_lanes.h"

namespace qwen {
template <class V> struct WholeBytes {
  static constexpr float kOffset = 128, kUnscale = 1;
  static auto read(const char* from) { return V::whole_bytes(from); }
};

struct Int8 : Format<kFloat16, false, 8> {
  static constexpr std::string_view kName = "int8";
  static constexpr bool kOnCpu = true;
  static constexpr int kColumns = kLaneColumns, kRows = kLaneRows;
  static constexpr int64_t row_bytes(int64_t columns) { return byte_row(columns); }
  template <class V> using Lanes = ByteLanes<V, WholeBytes>;
  static void unpack(const void* matrix, const void*, int64_t first, int64_t rows, int64_t columns, float* to) {
    unpack_bytes(matrix, first, rows, columns, to, [](int stored) { return static_cast<float>(stored - 128); });
  }
};
}  // namespace qwen
QWEN_VL_FORMAT(Int8)

// Whole numbers of 8 bits with a scale a row, 128 added where they are stored; the places: ops/formats/row_scaled.h.
// What the fields are: ops/formats/format.h.
#pragma once
#include "ops/formats/lane_format.h"
#include "ops/formats/row_scaled.h"
#include "ops/formats/row_scaled_lanes.h"

#ifdef __CUDACC__
#include "ops/formats/int8/number.cuh"
#endif

namespace qwen {
template <class V> struct WholeBytes {
  static constexpr float kOffset = 128, kUnscale = 1;
  static auto read(const char* from) { return V::whole_bytes(from); }
};

struct Int8Places : BytePlaces {
  static void unpack(const void* matrix, int64_t first, int64_t rows, int64_t columns, float* to) {
    unpack_bytes(matrix, first, rows, columns, to, [](int stored) { return static_cast<float>(stored - 128); });
  }
#ifdef __CUDACC__
  using Packing = ByteShare<Int8Number>;
#endif
};

struct Int8 : LaneFormat<Int8Places, 8> {
  static constexpr std::string_view kName = "int8";
  template <class V> using Lanes = ByteLanes<V, WholeBytes>;
};
}  // namespace qwen
QWEN_VL_FORMAT(Int8)

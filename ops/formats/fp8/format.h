// Floating numbers of 8 bits (e4m3) with a scale a row; the places: ops/formats/row_scaled.h. What the fields are:
// ops/formats/format.h.
#pragma once
#include "ops/formats/lane_format.h"
#include "ops/formats/row_scaled.h"
#include "ops/formats/row_scaled_lanes.h"

#ifdef __CUDACC__
#include "ops/formats/fp8/number.cuh"
#endif

namespace qwen {

// The number of these bits: a sign, 4 bits of exponent, 3 of mantissa. Not-a-numbers are not stored.
inline float e4m3_value(uint32_t bits) {
  if ((bits & 0x78) == 0) return (bits & 7) * ((bits & 0x80) ? -0x1p-9f : 0x1p-9f);
  const uint32_t wide = (bits & 0x80) << 24 | (((bits & 0x7f) << 20) + (120u << 23));
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

template <class V> struct E4m3Bytes {
  static constexpr float kOffset = 0, kUnscale = 256;
  static auto read(const char* from) { return V::e4m3_bytes(from); }
};

struct Fp8Places : BytePlaces {
  static void unpack(const void* matrix, int64_t first, int64_t rows, int64_t columns, float* to) {
    unpack_bytes(matrix, first, rows, columns, to, e4m3_value);
  }
#ifdef __CUDACC__
  using Packing = ByteShare<Fp8Number>;
#endif
};

struct Fp8 : LaneFormat<Fp8Places, 8> {
  static constexpr std::string_view kName = "fp8";
  template <class V> using Lanes = ByteLanes<V, E4m3Bytes>;
};
}  // namespace qwen
QWEN_VL_FORMAT(Fp8)

// Formats of one byte a weight and one scale a row.
//
// In a tile (lanes.h), byte 512 p + 64 r + 16 q + 2 m + h is number h of pair 8 p + m of row r and quad q. Behind the
// tiles of eight rows stand their scales, float32.
#pragma once
#include "ops/formats/lanes.h"

namespace qwen {

struct BytePlaces {
  static constexpr int kPieces = 2;  // times 1024 columns in a stage of the decode kernel
  QWEN_VL_ANYWHERE static constexpr int64_t bytes_of(int64_t columns) { return columns; }
  QWEN_VL_ANYWHERE static constexpr int64_t row_bytes(int64_t columns) {
    return lane_row_bytes(kLaneRows * (columns + 4));
  }
};

// The scale of a row of a matrix.
QWEN_VL_ANYWHERE const float* row_scale(const void* matrix, int64_t row, int64_t columns) {
  const int64_t rows = row / kLaneRows * kLaneRows;
  const char* from = static_cast<const char*>(matrix) + rows * BytePlaces::row_bytes(columns) + kLaneRows * columns;
  return reinterpret_cast<const float*>(from) + row % kLaneRows;
}

// Rows of such a matrix as floats; `number` makes one of a byte.
template <class F>
inline void unpack_bytes(const void* matrix, int64_t first, int64_t rows, int64_t columns, float* to, F number) {
  for (int64_t row = first; row < first + rows; ++row) {
    const uint8_t* from =
        static_cast<const uint8_t*>(matrix) + row / kLaneRows * kLaneRows * BytePlaces::row_bytes(columns);
    from += row % kLaneRows * 64;
    const float scale = *row_scale(matrix, row, columns);
    for (int64_t tile = 0; tile < columns; tile += kLaneColumns, from += kLaneRows * kLaneColumns) {
      for (int n = 0; n < kLanePairs; ++n) {
        for (int i = 0; i < 8; ++i) *to++ = scale * number(from[n / 8 * 512 + i / 2 * 16 + n % 8 * 2 + i % 2]);
      }
    }
  }
}

}  // namespace qwen

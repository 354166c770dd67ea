// How the numbers of a quantised matrix stand together: by the lanes of a warp that take them.
//
// A tile is 8 rows by 128 columns. Row r and quad q (0 to 3) of it are what lane 4 r + q of a warp takes: 16 pairs, of
// which pair n is the columns 8 n + 2 q and 8 n + 2 q + 1, as the tensor cores' operands want them. The tiles of eight
// rows follow on each other by columns. Behind the last one stands what else belongs to the eight rows, and padding up
// to whole lines of memory.
#pragma once
#include <cstdint>
#include <cstring>

#include "ops/kernels/common/anywhere.h"

namespace qwen {

constexpr int kLaneRows = 8, kLaneColumns = 128, kLanePairs = 16;  // of a tile; pairs of a row and quad
constexpr int kMemoryLine = 128;                                   // bytes

// Bytes of a row where eight rows have `bytes` together, before the padding.
QWEN_VL_ANYWHERE constexpr int64_t lane_row_bytes(int64_t bytes) {
  return (bytes + kMemoryLine - 1) / kMemoryLine * kMemoryLine / kLaneRows;
}

// A float16 number's value.
inline float half_value(const void* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  const uint32_t magnitude = bits & 0x7fffu, sign = (bits & 0x8000u) << 16;
  if (magnitude < 0x400) return magnitude * (sign ? -0x1p-24f : 0x1p-24f);
  const uint32_t wide = sign | ((magnitude << 13) + (112u << 23));  // (no infinity is stored)
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

}  // namespace qwen

// Whole numbers of 4 bits with a scale for each group of columns, and a zero point or none.
//
// In a tile (lanes.h), byte 64 r + 16 q + 4 s begins a word of row r and quad q; its bits from 16 h + 4 i on are number h
// of pair 4 s + i. Behind these 512 bytes row after row has the scales of its groups, float16; with zero points one
// stands behind each scale, also float16. Without, 8 is the zero point of all.
#pragma once
#include "ops/formats/lane_format.h"

namespace qwen {

#ifdef __CUDACC__
template <int GROUP, bool ZEROS> struct Int4Share;  // share.cuh
#endif

constexpr int kNibbleBytes = 512;  // of a tile's numbers
constexpr int kNoZeroPoint = 8;

// GROUP: columns that share a scale.
template <int GROUP, bool ZEROS> struct Int4Places {
  static constexpr int kGroup = GROUP, kGroups = kLaneColumns / GROUP;
  static constexpr bool kZeros = ZEROS;
  static constexpr int kBesideRow = kGroups * (ZEROS ? 4 : 2);  // bytes of scales and zero points of a row of a tile
  static constexpr int kTileBytes = kNibbleBytes + kLaneRows * kBesideRow;
  static_assert(kTileBytes % 16 == 0, "copies are of 16 bytes");
  // Times 1024 columns in a stage of the decode kernel; with more scales, more would not fit registers or code.
  static constexpr int kPieces = GROUP < 128 ? 2 : 4;
  QWEN_VL_ANYWHERE static constexpr int64_t bytes_of(int64_t columns) {
    return columns / kLaneColumns * (kTileBytes / kLaneRows);
  }
  QWEN_VL_ANYWHERE static constexpr int64_t row_bytes(int64_t columns) {
    return lane_row_bytes(columns / kLaneColumns * kTileBytes);
  }
#ifdef __CUDACC__
  using Packing = Int4Share<GROUP, ZEROS>;
#endif

  static void unpack(const void* matrix, int64_t first, int64_t rows, int64_t columns, float* to) {
    for (int64_t row = first; row < first + rows; ++row) {
      const int64_t r = row % kLaneRows;
      const char* tile = static_cast<const char*>(matrix) + (row - r) * row_bytes(columns);
      for (int64_t column = 0; column < columns; column += kLaneColumns, tile += kTileBytes) {
        const uint8_t* from = reinterpret_cast<const uint8_t*>(tile) + r * 64;
        const char* beside = tile + kNibbleBytes + r * kBesideRow;
        for (int n = 0; n < kLanePairs; ++n) {
          const char* of_group = beside + n * 8 / GROUP * (kBesideRow / kGroups);
          const float scale = half_value(of_group), zero = ZEROS ? half_value(of_group + 2) : float{kNoZeroPoint};
          for (int i = 0; i < 8; ++i) {  // quad i / 2, number i % 2
            const int byte = from[i / 2 * 16 + n / 4 * 4 + i % 2 * 2 + n % 4 / 2];
            *to++ = scale * (static_cast<float>(byte >> n % 2 * 4 & 15) - zero);
          }
        }
      }
    }
  }
};

template <class V, class Places> class Int4Lanes;

template <int GROUP, bool ZEROS> struct Int4Format : LaneFormat<Int4Places<GROUP, ZEROS>, 4> {
  template <class V> using Lanes = Int4Lanes<V, Int4Places<GROUP, ZEROS>>;
};

}  // namespace qwen

#ifdef __CUDACC__
#include "ops/formats/int4/share.cuh"
#endif

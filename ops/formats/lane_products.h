// Matrices of lanes (lanes.h) on a CPU, by vectors V (avx2.h, avx512.h): products with few rows, in which a weight becomes a
// float in registers alone, and unpacking for products with many. All in fp32.
//
// Columns are in the order in which a tile's numbers are taken from memory, which the activations are put into once.
//
// A format's Lanes<V> have kTileBytes; column(s), the column of a tile that comes s-th; the object Lanes(tile, r) of a
// row of a tile with number(v), its numbers from the V::kWidth * v-th on plus kOffset, and scale(), what each lane of
// them is multiplied by; and row_scale(end, r), what all of the row is, where `end` is behind the eight rows' tiles.
#pragma once
#include "ops/formats/lanes.h"

namespace qwen {

constexpr int kMostLaneProducts = 8;  // rows of activations

// What the offset of all numbers adds to a sum over the columns, lane by lane.
template <class Lanes, class V> inline typename V::Vector lane_offset(int64_t columns, const float* activations) {
  auto sum = V::zero();
  if constexpr (Lanes::kOffset != 0)
    for (int64_t column = 0; column < columns; column += V::kWidth)
      sum = V::multiply_add(V::all(Lanes::kOffset), V::load(activations + column), sum);
  return sum;
}

// Eight rows of a matrix times M rows of activations, each `columns` long: to[m * stride + row], or added to it.
// offsets: lane_offset of each row of activations.
template <class Lanes, class V, int M>
inline void lane_products(const char* group, int64_t columns, const float* activations,
                          const typename V::Vector (&offsets)[M], float* to, int64_t stride, bool accumulate) {
  typename V::Vector sums[kLaneRows][M];
#pragma GCC unroll 8
  for (int r = 0; r < kLaneRows; ++r)
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) sums[r][m] = V::subtract(V::zero(), offsets[m]);
  for (int64_t column = 0; column < columns; column += kLaneColumns, group += Lanes::kTileBytes) {
#pragma GCC unroll 8
    for (int r = 0; r < kLaneRows; ++r) {
      const Lanes row(group, r);
      typename V::Vector part[M];
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) part[m] = Lanes::kScaled ? V::zero() : sums[r][m];
#pragma GCC unroll 16
      for (int v = 0; v < kLaneColumns / V::kWidth; ++v) {
        const auto number = row.number(v);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
          part[m] = V::multiply_add(number, V::load(activations + m * columns + column + v * V::kWidth), part[m]);
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m)
        sums[r][m] = Lanes::kScaled ? V::multiply_add(part[m], row.scale(), sums[r][m]) : part[m];
    }
  }
  for (int r = 0; r < kLaneRows; ++r)
    for (int m = 0; m < M; ++m) {
      const float product = V::sum(sums[r][m]) * Lanes::row_scale(group, r);
      float& out = to[m * stride + r];
      out = accumulate ? out + product : product;
    }
}

// Eight rows of a matrix as floats, to[row * columns + column].
template <class Lanes, class V> inline void lane_numbers(const char* group, int64_t columns, float* to) {
  const char* const end = group + columns / kLaneColumns * Lanes::kTileBytes;
  for (int64_t column = 0; column < columns; column += kLaneColumns, group += Lanes::kTileBytes) {
    for (int r = 0; r < kLaneRows; ++r) {
      const Lanes row(group, r);
      const auto scale = V::multiply(row.scale(), V::all(Lanes::row_scale(end, r)));
#pragma GCC unroll 16
      for (int v = 0; v < kLaneColumns / V::kWidth; ++v)
        V::store(to + r * columns + column + v * V::kWidth,
                 V::multiply(V::subtract(row.number(v), V::all(Lanes::kOffset)), scale));
    }
  }
}

}  // namespace qwen

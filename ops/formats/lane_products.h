// Matrices of lanes (lanes.h) on a CPU, by vectors V (avx2.h, avx512.h): products with few rows, in which a weight
// becomes a float in registers alone, and unpacking for products with many. All in fp32.
//
// Columns are in the order in which a tile's numbers are taken from memory, which the activations are put into once.
//
// A format's Lanes<V> have kTileBytes; column(s), the column of a tile that comes s-th; the object Lanes(tile, r) of a
// row of a tile with number(v), its numbers from the V::kWidth * v-th on plus kOffset, and scale(), what each lane of
// them is multiplied by; and row_scale(end, r), what all of the row is, where `end` is behind the eight rows' tiles.
#pragma once
#include "ops/formats/lanes.h"

namespace qwen {

constexpr int kMostLaneProducts = 8;  // rows of activations; 1, 2, 4 or 8 are done at once

// Where the s-th column of row m of M rows of activations stands: a vector of each row, then the next of each.
template <class V, int M> constexpr int64_t lane_place(int64_t s, int64_t m) {
  return (s / V::kWidth * M + m) * V::kWidth + s % V::kWidth;
}

// What the offset of all numbers adds to a sum over the columns of row m, lane by lane.
template <class Lanes, class V, int M>
inline typename V::Vector lane_offset(int64_t columns, const float* activations, int m) {
  auto sum = V::zero();
  if constexpr (Lanes::kOffset != 0)
    for (int64_t column = 0; column < columns; column += V::kWidth)
      sum = V::multiply_add(V::all(Lanes::kOffset), V::load(activations + lane_place<V, M>(column, m)), sum);
  return sum;
}

// Adds to `sums` what a row of a tile gives with M rows of activations, at their lane_place.
template <class Lanes, class V, int M>
inline void lane_row_products(const char* tile, int r, const float* activations, typename V::Vector (&sums)[M]) {
  const Lanes row(tile, r);
  typename V::Vector part[M];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) part[m] = Lanes::kScaled ? V::zero() : sums[m];
#pragma GCC unroll 16
  for (int v = 0; v < kLaneColumns / V::kWidth; ++v) {
    const auto number = row.number(v);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
      part[m] = V::multiply_add(number, V::load(activations + (v * M + m) * V::kWidth), part[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) sums[m] = Lanes::kScaled ? V::multiply_add(part[m], row.scale(), sums[m]) : part[m];
}

// Eight rows of a matrix times the first `rows` of M rows of activations of so many columns: to[m * stride + row], or
// added to it. offsets: lane_offset of each row of activations.
template <class Lanes, class V, int M>
inline void lane_products(const char* group, int64_t columns, const float* activations,
                          const typename V::Vector (&offsets)[M], float* to, int64_t rows, int64_t stride,
                          bool accumulate) {
  typename V::Vector sums[kLaneRows][M];
#pragma GCC unroll 8
  for (int r = 0; r < kLaneRows; ++r)
    for (int m = 0; m < M; ++m) sums[r][m] = V::subtract(V::zero(), offsets[m]);
  for (int64_t column = 0; column < columns; column += kLaneColumns, group += Lanes::kTileBytes) {
    if constexpr (M == 1) {  // all of the sums stay in registers
#pragma GCC unroll 8
      for (int r = 0; r < kLaneRows; ++r) lane_row_products<Lanes, V, M>(group, r, activations + column * M, sums[r]);
    } else {
      for (int r = 0; r < kLaneRows; ++r) lane_row_products<Lanes, V, M>(group, r, activations + column * M, sums[r]);
    }
  }
  for (int r = 0; r < kLaneRows; ++r)
    for (int64_t m = 0; m < rows; ++m) {
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

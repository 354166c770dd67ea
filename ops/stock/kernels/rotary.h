// Rotary embedding: the table of cosines and sines, and the rotation of padded heads in place.
#pragma once
#include <cmath>

#include "each.h"

namespace stock {

constexpr double kRotaryBase = 10000.0;

// position_ids [batch, positions] -> table [2, batch, 1, columns, width]: cosines, then sines. neox: both halves of
// the width hold the same angles; else neighbours do.
struct RotaryTable {
  const long long* position_ids;
  float* table;
  int batch, columns, positions, first, width;
  bool neox;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int half = width / 2, pair = i % half;
    const int64_t place = i / half, row = place / columns, column = place % columns;
    const float frequency = static_cast<float>(pow(kRotaryBase, -2.0 * pair / width));
    const float angle = static_cast<float>(position_ids[row * positions + first + column]) * frequency;
    float* const cosines = table + place * width;
    float* const sines = cosines + static_cast<int64_t>(batch) * columns * width;
    const int left = neox ? pair : 2 * pair, right = neox ? pair + half : 2 * pair + 1;
    cosines[left] = cosines[right] = cosf(angle);
    sines[left] = sines[right] = sinf(angle);
  }
};

// Rotates x [batch, heads, columns, width] in place by table [2, batch, columns, width], up to each row's length.
// `columns` and `width` are counted with rotary_emb_dims: so many more columns, each so much narrower.
template <typename T>
struct RotateHeads {
  T* x;
  const float* table;
  const int* lengths;
  int batch, heads, columns, width, dims;
  bool neox;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int half = width / 2, pair = i % half;
    const int64_t line = i / half, column = line % columns, row = line / columns / heads;
    if (column >= static_cast<int64_t>(lengths[row]) * dims) return;
    const int left = neox ? pair : 2 * pair, right = neox ? pair + half : 2 * pair + 1;
    const float* const cosines = table + (row * columns + column) * width;
    const float* const sines = cosines + static_cast<int64_t>(batch) * columns * width;
    T* const values = x + line * width;
    const float a = static_cast<float>(values[left]), b = static_cast<float>(values[right]);
    values[left] = static_cast<T>(a * cosines[left] - b * sines[left]);
    values[right] = static_cast<T>(b * cosines[right] + a * sines[right]);
  }
};

}  // namespace stock

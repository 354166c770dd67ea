// Rows of different length, padded to [batch, columns], to packed tokens and back.
#pragma once
#include "each.h"

namespace stock {

// Padding in all rows before `row`.
STOCK_FUNCTION int padding_before(const int* lengths, int row, int columns) {
  int padding = 0;
  for (int b = 0; b < row; ++b) padding += columns - lengths[b];
  return padding;
}

// ids [batch, columns] -> tokens and padding_offset [capacity]; token t stands at place t + padding_offset[t].
struct PackTokens {
  const long long* ids;
  const int* lengths;
  long long* tokens;
  int* padding_offset;
  int columns;
  int64_t capacity;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int row = i / columns, column = i % columns;
    if (column >= lengths[row]) return;
    const int padding = padding_before(lengths, row, columns);
    const int64_t token = i - padding;
    if (token >= capacity) return;
    tokens[token] = ids[i];
    padding_offset[token] = padding;
  }
};

// lengths [batch] -> padding before every row [batch].
struct RowPadding {
  const int* lengths;
  int* padding;
  int columns;

  STOCK_FUNCTION void operator()(int64_t row) const { padding[row] = padding_before(lengths, row, columns); }
};

// lengths [batch] -> where every row begins among the tokens, and their number, [batch + 1].
struct RowStarts {
  const int* lengths;
  int* starts;

  STOCK_FUNCTION void operator()(int64_t row) const { starts[row] = -padding_before(lengths, row, 0); }
};

// packed [tokens, units] -> last [batch, units]: a row's last token, zero for an empty row. A row with `decoding`
// (null: none) above zero holds one token.
template <typename Unit>
struct LastTokens {
  const Unit* packed;
  Unit* last;
  const int* padding;
  const int* lengths;
  const int* decoding;
  int columns, units;
  int64_t tokens;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int row = i / units;
    const int length = decoding != nullptr && decoding[row] > 0 ? 1 : lengths[row];
    const int64_t token = static_cast<int64_t>(row) * columns - padding[row] + length - 1;
    last[i] = length > 0 && token >= 0 && token < tokens ? packed[token * units + i % units] : Unit{};
  }
};

}  // namespace stock

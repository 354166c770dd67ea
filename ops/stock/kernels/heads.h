// Between packed tokens [tokens, heads * width] and padded heads [batch, heads, columns, width], in units of a copy.
#pragma once
#include "each.h"

namespace stock {

// Where unit `unit` of head `head` of packed token `token` lies in the padded heads; -1 outside of them.
STOCK_FUNCTION int64_t padded_place(const int* padding_offset, const int* lengths, int64_t token, int batch, int heads,
                                    int columns, int units, int head, int unit) {
  const int64_t place = token + padding_offset[token];
  const int64_t row = place / columns, column = place % columns;
  if (place < 0 || row >= batch || lengths[row] == 0) return -1;
  return ((row * heads + head) * columns + column) * units + unit;
}

// qkv [tokens, 3, heads, units] -> q, k and v [batch, heads, columns, units].
template <typename Unit>
struct SplitHeads {
  const Unit* qkv;
  Unit *q, *k, *v;
  const int *padding_offset, *lengths;
  int batch, heads, columns, units;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int unit = i % units, head = i / units % heads, part = i / units / heads % 3;
    const int64_t to =
        padded_place(padding_offset, lengths, i / units / heads / 3, batch, heads, columns, units, head, unit);
    if (to >= 0) (part == 0 ? q : part == 1 ? k : v)[to] = qkv[i];
  }
};

// padded [batch, heads, columns, units] -> packed [tokens, heads, units]; zero for tokens of empty rows.
template <typename Unit>
struct MergeHeads {
  const Unit* padded;
  Unit* packed;
  const int *padding_offset, *lengths;
  int batch, heads, columns, units;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int unit = i % units, head = i / units % heads;
    const int64_t from =
        padded_place(padding_offset, lengths, i / units / heads, batch, heads, columns, units, head, unit);
    packed[i] = from >= 0 ? padded[from] : Unit{};
  }
};

}  // namespace stock

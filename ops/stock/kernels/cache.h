// Writes keys and values of a prompt into a cache as masked_multihead_attention reads it, in units of 16 bytes.
#pragma once
#include "each.h"

namespace stock {

// keys and values [batch, heads, columns, units] into cache [2, cache_batch, heads, slots * units]: a head's keys lie
// as [units, slots], its values as [slots, units].
struct WriteCache {
  const Unit16 *keys, *values;
  Unit16* cache;
  const int* lengths;
  int cache_batch, heads, columns, slots, units;

  STOCK_FUNCTION void operator()(int64_t i) const {
    const int unit = i % units, column = i / units % columns;
    const int64_t head = i / units / columns;  // counted over the whole batch
    if (column >= lengths[head / heads] || column >= slots) return;
    Unit16* const key_cache = cache + head * slots * units;
    Unit16* const value_cache = key_cache + static_cast<int64_t>(cache_batch) * heads * slots * units;
    key_cache[static_cast<int64_t>(unit) * slots + column] = keys[i];
    value_cache[static_cast<int64_t>(column) * units + unit] = values[i];
  }
};

}  // namespace stock

// The places of row_scaled.h for products on a CPU, see ops/formats/lane_products.h.
#pragma once
#include "ops/formats/row_scaled.h"

namespace qwen {

// Numbers<V>: `static auto read(const char*)`, V::kWidth numbers; kOffset, what those are too large by, and kUnscale,
// what they are too small by after that.
template <class V, template <class> class Numbers> class ByteLanes {
 public:
  static constexpr int kTileBytes = kLaneRows * kLaneColumns;
  static constexpr bool kScaled = false;
  static constexpr float kOffset = Numbers<V>::kOffset;

  static constexpr int column(int s) { return 8 * (8 * (s / 64) + s % 16 / 2) + 2 * (s % 64 / 16) + s % 2; }
  static float row_scale(const char* end, int r) {
    return Numbers<V>::kUnscale * reinterpret_cast<const float*>(end)[r];
  }

  ByteLanes(const char* tile, int r) : from_(tile + r * 64) {}
  auto number(int v) const {
    const int s = v * V::kWidth;
    return Numbers<V>::read(from_ + s / 64 * kLaneRows * 64 + s % 64);
  }
  static auto scale() { return V::all(1); }

 private:
  const char* from_;
};

}  // namespace qwen

// The places of groups.h for products on a CPU, see ops/formats/lane_products.h.
#pragma once
#include "ops/formats/int4/groups.h"

namespace qwen {

// A lane takes one of a row's sixteen words after the other, or two of them: always words of the same groups.
template <class V, class Places> class Int4Lanes {
 public:
  static constexpr int kTileBytes = Places::kTileBytes;
  static constexpr bool kScaled = true;
  static constexpr float kOffset = 0;

  static constexpr int column(int s) {
    const int word = s / (8 * V::kWidth) * V::kWidth + s % V::kWidth, place = s / V::kWidth % 8;
    return 8 * (4 * (word % 4) + place % 4) + 2 * (word / 4) + place / 4;
  }
  static float row_scale(const char*, int) { return 1; }

  Int4Lanes(const char* tile, int r) : from_(tile + r * 64) {
    const char* const beside = tile + kNibbleBytes + r * Places::kBesideRow;
    scale_ = V::template halves<Places::kGroups, Places::kZeros>(beside);
    zero_ = Places::kZeros ? V::template halves<Places::kGroups, true>(beside + 2) : V::all(kNoZeroPoint);
    if constexpr (kOneZero) less_ = V::nibbles_less(zero_);
    else less_ = V::nibbles_less(V::zero());
  }
  auto number(int v) const {
    const auto found = V::nibbles(less_, from_ + v / 8 * V::kWidth * 4, v % 8);
    if constexpr (kOneZero) return found;
    else return V::subtract(found, zero_);
  }
  auto scale() const { return scale_; }

 private:
  static constexpr bool kOneZero = !Places::kZeros || Places::kGroups == 1;

  const char* from_;
  typename V::Nibbles less_;
  typename V::Vector scale_, zero_;
};

}  // namespace qwen

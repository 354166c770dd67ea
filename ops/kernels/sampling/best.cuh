// The token with the largest logit so far; of equal ones the lowest.
#pragma once

namespace qwen {

struct Best {
  float value;
  int index;

  __device__ __forceinline__ void take(float other, int other_index) {
    if (other > value || (other == value && other_index < index)) {
      value = other;
      index = other_index;
    }
  }
};

}  // namespace qwen

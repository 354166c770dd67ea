// The token with the largest logit so far; of equal ones the lowest.
#pragma once

namespace qwen {

struct Best {
  float value;
  int index;

  __device__ __forceinline__ void take(float other, int at) {
    if (other > value || (other == value && at < index)) {
      value = other;
      index = at;
    }
  }
};

}  // namespace qwen

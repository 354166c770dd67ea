#include <cstring>

#include "ops/paddle/cpu/operators.h"

namespace qwen_vl::cpu {

void embedding(const Embedding& p) {
  const size_t row_bytes = p.hidden * sizeof(float);
  for (int64_t i = 0; i < p.batch * p.columns; ++i) {
    const int64_t token = p.tokens[i] < 0 || p.tokens[i] >= p.vocab ? 0 : p.tokens[i];  // the host checked real tokens
    std::memcpy(p.out + i * p.hidden, p.token_embedding + token * p.hidden, row_bytes);
  }
  for (int64_t image = 0; image < p.images; ++image) {
    const int64_t row = p.image_starts[2 * image], column = p.image_starts[2 * image + 1];
    if (row < 0 || row >= p.batch || column < 0 || column + p.queries > p.columns) continue;
    std::memcpy(p.out + (row * p.columns + column) * p.hidden, p.image_features + image * p.queries * p.hidden,
                p.queries * row_bytes);
  }
}

}  // namespace qwen_vl::cpu

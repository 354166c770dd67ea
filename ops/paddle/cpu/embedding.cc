#include <algorithm>
#include <cstring>

#include "ops/paddle/cpu/operators.h"

namespace qwen_vl::cpu {

void embedding(const QwenVlEmbedding& p) {
  const int64_t hidden = p.hidden_size, columns = p.seq, slots = p.features_per_image;
  float* out = floats(p.hidden);
  for (int64_t i = 0; i < p.batch * columns; ++i) {
    const bool known = p.tokens[i] >= 0 && p.tokens[i] < p.vocab;
    if (known) {
      std::memcpy(out + i * hidden, floats(p.table, p.tokens[i], hidden), hidden * sizeof(float));
    } else {
      std::fill_n(out + i * hidden, hidden, 0.0f);
    }
  }
  for (int64_t image = 0; image < p.images; ++image) {
    const int64_t row = p.image_starts[2 * image], column = p.image_starts[2 * image + 1];
    if (row < 0 || row >= p.batch) continue;
    const int64_t begin = std::max<int64_t>(column, 0), end = std::min(column + slots, columns);
    if (begin >= end) continue;
    std::memcpy(out + (row * columns + begin) * hidden, floats(p.features, image * slots + begin - column, hidden),
                (end - begin) * hidden * sizeof(float));
  }
}

}  // namespace qwen_vl::cpu

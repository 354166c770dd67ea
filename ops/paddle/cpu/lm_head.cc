#include <algorithm>
#include <cstring>

#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {

void lm_head(const LmHead& p) {
  const int64_t rows = p.batch * p.wanted;
  const Buffer picked = make_buffer(rows * p.hidden), normed = make_buffer(rows * p.hidden);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t column = std::clamp<int64_t>(p.logit_columns[r], 0, p.columns - 1);
    std::memcpy(picked.get() + r * p.hidden, p.hidden_in + (r / p.wanted * p.columns + column) * p.hidden,
                p.hidden * sizeof(float));
  }
  rms_norm(picked.get(), p.ln_f_weight, p.eps, normed.get(), rows, p.hidden);
  linear(normed.get(), p.hidden, p.lm_head_weight, p.hidden, p.logits, p.vocab, rows, p.vocab, p.hidden);

  for (int64_t row = 0; row < p.batch; ++row) {
    if (p.finished[row] != 0) continue;
    const float* last = p.logits + (row * p.wanted + p.wanted - 1) * p.vocab;
    const int64_t token = std::max_element(last, last + p.vocab) - last;
    p.next_tokens[row] = token;
    if (p.counts[row] < p.capacity) p.generated[row * p.capacity + p.counts[row]++] = token;
    p.finished[row] = std::find(p.stop_tokens, p.stop_tokens + p.stops, token) != p.stop_tokens + p.stops;
    p.positions[row] += p.lengths[row];
  }
}

}  // namespace qwen_vl::cpu

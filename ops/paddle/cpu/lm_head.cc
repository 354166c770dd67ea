#include <algorithm>
#include <cstring>

#include "ops/kernels/sampling/advance.h"
#include "ops/paddle/cpu/blas.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/operators.h"
#include "ops/paddle/cpu/pointwise.h"

namespace qwen_vl::cpu {

void lm_head(const QwenVlLmHead& p) {
  const int64_t wanted = p.columns, rows = p.batch * wanted, hidden = p.hidden, vocab = p.vocab;
  const Buffer picked = make_buffer(rows * hidden), normed = make_buffer(rows * hidden);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t column = std::clamp<int64_t>(p.logit_columns[r], 0, p.seq - 1);
    std::memcpy(picked.get() + r * hidden, floats(p.x, r / wanted * p.seq + column, hidden), hidden * sizeof(float));
  }
  rms_norm(picked.get(), floats(p.ln_f_weight), p.epsilon, normed.get(), rows, hidden);
  linear(normed.get(), hidden, Weights{p.format, p.lm_head_weight, p.lm_head_extra}, p.logits, vocab, rows, vocab,
         hidden);
  if (p.leave_choice) return;

  for (int64_t row = 0; row < p.batch; ++row) {
    const float* last = p.logits + (row * wanted + wanted - 1) * vocab;
    if (p.finished[row] == 0) qwen::advance(p, row, std::max_element(last, last + vocab) - last, p.lengths[row]);
  }
}

}  // namespace qwen_vl::cpu

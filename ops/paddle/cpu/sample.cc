// The choice of the next token, on the CPU: ops/kernels/sampling/arithmetic.h, one row after the other.
#include <algorithm>
#include <vector>

#include "ops/kernels/sampling/advance.h"
#include "ops/kernels/sampling/arithmetic.h"
#include "ops/paddle/cpu/operators.h"

namespace qwen_vl::cpu {
namespace {

using qwen::SamplingParameters;

// The smallest key at which the measures of the keys from it upwards reach what `wanted` says of their total.
template <typename Measure, typename Wanted>
uint32_t smallest_kept(const std::vector<uint32_t>& keys, Measure measure, Wanted wanted) {
  uint32_t prefix = 0;
  uint64_t missing = 0;
  for (int digit = 0; digit < qwen::kDigits; ++digit) {
    std::vector<uint64_t> histogram(qwen::kBins);
    uint64_t total = 0;
    for (const uint32_t key : keys) {
      if (!qwen::shares_digits(key, prefix, digit)) continue;
      const uint64_t value = measure(key);
      histogram[qwen::digit_of(key, digit)] += value;
      total += value;
    }
    if (digit == 0) missing = wanted(total);
    uint32_t bin = qwen::kBins - 1;
    for (; histogram[bin] < missing; --bin) missing -= histogram[bin];
    prefix |= bin << qwen::digit_shift(digit);
  }
  return prefix;
}

int64_t draw(const std::vector<uint32_t>& keys, const SamplingParameters& p, int64_t position) {
  const uint32_t peak = *std::max_element(keys.begin(), keys.end());
  if (!(p.temperature > 0.0f)) return std::find(keys.begin(), keys.end(), peak) - keys.begin();
  uint32_t threshold = 0;
  if (p.top_k > 0)
    threshold = smallest_kept(
        keys, [](uint32_t) { return uint64_t{1}; }, [&](uint64_t total) { return std::min<uint64_t>(p.top_k, total); });
  const auto weight = [&](uint32_t key) { return key < threshold ? 0 : qwen::key_weight(key, peak); };
  if (p.top_p < 1.0f)
    threshold = smallest_kept(keys, weight, [&](uint64_t total) { return qwen::wanted_weight(p.top_p, total); });
  uint64_t total = 0;
  for (const uint32_t key : keys) total += weight(key);
  uint64_t rest = qwen::high_product(qwen::random_bits(p.seed, position), total);
  size_t token = 0;
  for (uint64_t value; rest >= (value = weight(keys[token])); ++token) rest -= value;
  return token;
}

}  // namespace

void sample(const QwenVlSample& p) {
  std::vector<uint32_t> keys(p.vocab);
  for (int64_t row = 0; row < p.batch; ++row) {
    if (p.finished[row] != 0) continue;
    int* const record = p.sampling + row * qwen::sampling_width(p.vocab);
    SamplingParameters parameters;
    std::memcpy(&parameters, record, sizeof parameters);
    const float* logits = p.logits + (row * p.columns + p.columns - 1) * p.vocab;
    const bool early = p.counts[row] < parameters.min_new_tokens;
    for (int64_t i = 0; i < p.vocab; ++i)
      keys[i] = qwen::score_key(logits[i], parameters, qwen::is_seen(record, i), early && qwen::is_stop(p, i));
    const int64_t token = draw(keys, parameters, p.positions[row] + p.lengths[row]);
    qwen::mark_seen(record, token);
    qwen::advance(p, row, token, p.lengths[row]);
  }
}

}  // namespace qwen_vl::cpu

// What a chosen token does to a row's state; `Call` is QwenVlLmHead or QwenVlSample.
#pragma once
#include <algorithm>
#include <cstdint>

namespace qwen_vl::cpu {

template <typename Call>
bool is_stop(const Call& p, int64_t token) {
  return std::find(p.stop_tokens, p.stop_tokens + p.stop_count, token) != p.stop_tokens + p.stop_count;
}

template <typename Call>
void advance(const Call& p, int64_t row, int64_t token) {
  p.next_tokens[row] = token;
  const int64_t count = p.counts[row]++;
  if (count < p.generated_slots) p.generated[row * p.generated_slots + count] = token;
  p.finished[row] = is_stop(p, token);
  p.positions[row] += p.lengths[row];
}

}  // namespace qwen_vl::cpu

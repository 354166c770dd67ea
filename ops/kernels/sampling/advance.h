// What a chosen token does to its row of a generation's state, on the host and on devices. `Call` is what has the
// state: QwenVlDecodeArgs, QwenVlLmHead or QwenVlSample. No CUDA header.
#pragma once

#include <cstdint>

#include "ops/kernels/common/anywhere.h"

namespace qwen {

template <typename Call> QWEN_VL_ANYWHERE bool is_stop(const Call& call, int64_t token) {
  for (int i = 0; i < call.stop_count; ++i)
    if (call.stop_tokens[i] == token) return true;
  return false;
}

// The row is not finished; `tokens` more of it are in the cache.
template <typename Call> QWEN_VL_ANYWHERE void advance(const Call& call, int64_t row, int64_t token, int tokens) {
  call.next_tokens[row] = token;
  const int count = call.counts[row];
  if (count < call.generated_slots) call.generated[row * call.generated_slots + count] = token;
  call.counts[row] = count + 1;
  call.positions[row] += tokens;
  if (is_stop(call, token)) call.finished[row] = 1;
}

}  // namespace qwen

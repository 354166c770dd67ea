// What prefill is tuned by beside its products (products/tuning.h) and attention (attention/tuning.h).
#pragma once

namespace qwen {

// The MLP takes its rows in equal blocks of at most so many: its intermediate values are the largest ones of a prompt.
// 2044 tokens take as long as in one block (H100).
constexpr long long kMlpRows = 1024;

}  // namespace qwen

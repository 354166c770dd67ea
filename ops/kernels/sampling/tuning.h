// What the choice of tokens is tuned by. Not measured against others.
#pragma once

namespace qwen {

constexpr int kThreads = 256;
constexpr int kParts = 64;  // blocks that share one row's tokens, so that one row alone has many

}  // namespace qwen

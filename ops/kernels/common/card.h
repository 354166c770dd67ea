// The facts of a card that kernels are tuned by. No CUDA header.
#pragma once

namespace qwen {

struct Card {
  int multiprocessors;
  int shared_bytes;  // that one block may have
  double read_rate;  // of its memory, nominal, bytes per second
};

// The current device's, asked for once; zeros where it does not say.
Card card();

}  // namespace qwen

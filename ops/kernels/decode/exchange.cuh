// Values that blocks hand to each other without a grid barrier: every 8-byte word carries its own tag, so a reader
// knows by itself whether the word is there. A word is written once a layer; the grid barriers later in the layer see
// to it that all have read it before it is written again. No two layers of any launches have the same tag.
#pragma once

#include <stdint.h>

#include "ops/kernels/common/barriers.cuh"

namespace qwen {

using Word = unsigned long long;  // low half: payload; high half: tag

struct alignas(16) WordPair {
  Word first, second;
};

__device__ inline Word make_word(uint32_t payload, unsigned tag) { return Word{tag} << 32 | payload; }
__device__ inline Word make_word(float payload, unsigned tag) { return make_word(__float_as_uint(payload), tag); }
__device__ inline uint32_t payload(Word w) { return static_cast<uint32_t>(w); }
__device__ inline float float_payload(Word w) { return __uint_as_float(payload(w)); }

__device__ inline void publish(Word* to, Word w) {
  test_delay();
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(w) : "memory");
}

// Reads the pairs at `address(i)`, all at once, until each of them carries `tag`; a pair whose address is null is left out.
template <int Count, class Address>
__device__ inline void receive(WordPair (&pairs)[Count], Address address, unsigned tag) {
  wait_until(QWEN_VL_WAIT_WORDS, [&] {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      if (address(i) == nullptr) continue;
      asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(pairs[i].first),
                                                                    "=l"(pairs[i].second) : "l"(address(i)) : "memory");
    }
    bool ready = true;
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      if (address(i) == nullptr) continue;
      ready = ready && unsigned(pairs[i].first >> 32) == tag && unsigned(pairs[i].second >> 32) == tag;
    }
    return ready;
  });
}

}  // namespace qwen

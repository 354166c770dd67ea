// What the CPU and the CUDA kernel share, so that the same logits and the same seed give the same token on both: the
// row's parameters, scores as ordered integers, fixed-point probabilities and the random numbers. Sums of fixed-point
// probabilities are exact, so the order in which threads add them does not matter. No framework, no CUDA header.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/kernels/common/anywhere.h"

namespace qwen {

// How a row is drawn; in a row of `sampling` it stands before the bitmap of the tokens seen so far.
struct SamplingParameters {
  float temperature;         // 0: the likeliest token
  float top_p;               // keep the likeliest tokens until their probabilities reach this; 1: all
  int32_t top_k;             // keep this many of the likeliest tokens; 0: all
  float repetition_penalty;  // of tokens seen in the prompt or in the answer; 1: none
  int32_t min_new_tokens;    // no stop token before this many new ones
  uint32_t seed[2];          // low and high half
};
constexpr int kSamplingColumns = sizeof(SamplingParameters) / 4;

// Columns of a row of `sampling`, int32: the parameters, then one bit a token.
QWEN_VL_ANYWHERE int sampling_width(int vocab) { return kSamplingColumns + (vocab + 31) / 32; }

QWEN_VL_ANYWHERE bool is_seen(const int32_t* row, int token) {
  return static_cast<uint32_t>(row[kSamplingColumns + token / 32]) >> (token % 32) & 1;
}
QWEN_VL_ANYWHERE void mark_seen(int32_t* row, int token) {
  row[kSamplingColumns + token / 32] |= static_cast<int32_t>(1u << (token % 32));
}

// A logit after repetition penalty, minimum length (`masked`) and temperature, as an integer of the same order: keys
// compare as scores do, NaN comes below everything.
QWEN_VL_ANYWHERE uint32_t score_key(float logit, const SamplingParameters& p, bool seen, bool masked) {
  float score = logit;
  if (seen) score = score < 0.0f ? score * p.repetition_penalty : score / p.repetition_penalty;
  if (p.temperature > 0.0f) score = score / p.temperature;
  if (masked) score = -INFINITY;
  if (score != score) return 0;
  if (score == 0.0f) score = 0.0f;  // one zero
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

QWEN_VL_ANYWHERE float key_score(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key ^ 0x80000000u : ~key;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

// 2^40 times exp(score - peak's score), as an integer. Every rounding is spelt out, so all compilers give the same:
// 2^n times a degree-6 polynomial on [-ln2/2, ln2/2] (Cephes expf coefficients), relative error below 2e-7.
QWEN_VL_ANYWHERE uint64_t key_weight(uint32_t key, uint32_t peak) {
  if (key == peak) return uint64_t{1} << 40;
  const float x = key_score(key) - key_score(peak);
  if (!(x > -29.0f)) return 0;  // so is NaN's weight
  const float n = rintf(x * 1.44269504088896341f);
  const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  p = fmaf(p, r * r, r) + 1.0f;
  const uint64_t mantissa = static_cast<uint64_t>(p * 16777216.0f);
  const int shift = 16 + static_cast<int>(n);
  return shift >= 0 ? mantissa << shift : mantissa >> -shift;
}

QWEN_VL_ANYWHERE uint64_t high_product(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
#endif
}

// 64 random bits for a position under a seed: Philox-4x32-10 (Salmon et al., SC 2011), first two words.
QWEN_VL_ANYWHERE uint64_t random_bits(const uint32_t seed[2], uint64_t position) {
  uint32_t counter[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  uint32_t key[2] = {seed[0], seed[1]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; ++i) counter[i] = next[i];
    key[0] += 0x9E3779B9, key[1] += 0xBB67AE85;
  }
  return uint64_t{counter[1]} << 32 | counter[0];
}

// The threshold that keeps the largest keys is found digit by digit, from the highest: a histogram of the digit over
// the keys that share the digits before, then the digit at which the sum from the top reaches what is wanted.
constexpr int kDigits = 3, kBins = 2048;
QWEN_VL_ANYWHERE int digit_shift(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }
QWEN_VL_ANYWHERE uint32_t digit_of(uint32_t key, int digit) {
  return key >> digit_shift(digit) & (digit == 2 ? 1023u : 2047u);
}
QWEN_VL_ANYWHERE bool shares_digits(uint32_t key, uint32_t prefix, int digit) {
  return digit == 0 || (key ^ prefix) >> digit_shift(digit - 1) == 0;
}

// How much of `total` top-p must keep, at least the likeliest token.
QWEN_VL_ANYWHERE uint64_t wanted_weight(float top_p, uint64_t total) {
  const double wanted = ceil(static_cast<double>(top_p) * static_cast<double>(total));
  const uint64_t weight = wanted < 1.0 ? 1 : static_cast<uint64_t>(wanted);
  return weight < total ? weight : total;
}

}  // namespace qwen

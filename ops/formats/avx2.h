// Vectors of floats on a CPU, as far as quantised weights need them: eight, by AVX2 with FMA and F16C, which the source
// file that includes this must allow (#pragma GCC target).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace qwen {

// COUNT (1, 2 or 4) float16 numbers, every second one if PAIRS: number i * COUNT / 4 of them in lane i.
template <int COUNT, bool PAIRS> static inline __m128 four_halves(const void* from) {
  const char* const bytes = static_cast<const char*>(from);
  constexpr int kStep = PAIRS ? 4 : 2;
  uint16_t found[4];
  for (int i = 0; i < 4; ++i) std::memcpy(found + i, bytes + i * COUNT / 4 * kStep, 2);
  return _mm_cvtph_ps(_mm_set_epi16(0, 0, 0, 0, found[3], found[2], found[1], found[0]));
}

// kWidth floats. Numbers are read from as many bytes, whole ones from 0 to 255 or e4m3.
struct Avx2 {
  using Vector = __m256;
  static constexpr int kWidth = 8;

  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector all(float value) { return _mm256_set1_ps(value); }
  static Vector load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, Vector v) { _mm256_storeu_ps(to, v); }
  static Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Vector v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static __m128i bytes(const void* from) { return _mm_loadl_epi64(static_cast<const __m128i*>(from)); }
  static Vector whole_bytes(const void* from) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes(from))); }
  // The bits moved to where float16 has them, which is a number 2^-8 of e4m3's.
  static Vector e4m3_bytes(const void* from) {
    const __m128i high = _mm_unpacklo_epi8(_mm_setzero_si128(), bytes(from));
    const __m128i bits = _mm_and_si128(_mm_srai_epi16(high, 1), _mm_set1_epi16(static_cast<int16_t>(0xBFFF)));
    return _mm256_cvtph_ps(bits);
  }

  // Number `place` of the eight of 4 bits in each of kWidth words, less one that they share.
  using Nibbles = __m256;
  static Nibbles nibbles_less(Vector less) { return less; }
  static Vector nibbles(Nibbles less, const void* from, int place) {
    const __m256i words = _mm256_loadu_si256(static_cast<const __m256i*>(from));
    const __m256i codes = _mm256_and_si256(_mm256_srli_epi32(words, 4 * place), _mm256_set1_epi32(15));
    return _mm256_sub_ps(_mm256_cvtepi32_ps(codes), less);
  }

  // Of COUNT float16 numbers, every second one if PAIRS, for each lane that whose place lane % 4 has among four.
  template <int COUNT, bool PAIRS> static Vector halves(const void* from) {
    return _mm256_set_m128(four_halves<COUNT, PAIRS>(from), four_halves<COUNT, PAIRS>(from));
  }
};

}  // namespace qwen

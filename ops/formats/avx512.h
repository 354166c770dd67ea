// Vectors of floats on a CPU as in avx2.h: sixteen, by AVX-512 (F, BW, DQ, VL).
#pragma once
#include "ops/formats/avx2.h"

namespace qwen {

struct Avx512 {
  using Vector = __m512;
  static constexpr int kWidth = 16;

  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector all(float value) { return _mm512_set1_ps(value); }
  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
  static Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Vector v) { return _mm512_reduce_add_ps(v); }

  static __m128i bytes(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
  static Vector whole_bytes(const void* from) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes(from))); }
  static Vector e4m3_bytes(const void* from) {
    const __m256i high = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes(from)), 8);
    const __m256i bits = _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16(static_cast<int16_t>(0xBFFF)));
    return _mm512_cvtph_ps(bits);
  }

  // A table of the sixteen numbers: a permutation looks at the lowest four bits of each index alone.
  using Nibbles = __m512;
  static Nibbles nibbles_less(Vector less) {
    return _mm512_sub_ps(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), less);
  }
  static Vector nibbles(Nibbles table, const void* from, int place) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(_mm512_loadu_si512(from), 4 * place), table);
  }

  template <int COUNT, bool PAIRS> static Vector halves(const void* from) {
    return _mm512_broadcast_f32x4(four_halves<COUNT, PAIRS>(from));
  }
};

}  // namespace qwen

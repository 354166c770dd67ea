#include "ops/paddle/cpu/blas.h"

namespace qwen_vl::cpu {
namespace {

// Four weight rows at a time keep four streams of loads in flight; the row count is a template parameter so that
// the sums stay in registers.
template <int M>
void dot_block(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t n, int64_t k,
               bool accumulate) {
  constexpr int kWeightRows = M <= 2 ? 4 : 2;
  const int64_t blocks = (n + kWeightRows - 1) / kWeightRows;
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * kWeightRows;
    const int64_t rows = n - first < kWeightRows ? n - first : kWeightRows;
    if (rows == kWeightRows) {
      float sum[kWeightRows][M] = {};
      constexpr int kLanes = 8;
      float lanes[kWeightRows][M][kLanes] = {};
      int64_t i = 0;
      for (; i + kLanes <= k; i += kLanes)
        for (int r = 0; r < kWeightRows; ++r)
          for (int m = 0; m < M; ++m)
#pragma omp simd
            for (int l = 0; l < kLanes; ++l) lanes[r][m][l] += w[(first + r) * ldw + i + l] * a[m * lda + i + l];
      for (int r = 0; r < kWeightRows; ++r)
        for (int m = 0; m < M; ++m) {
          for (int l = 0; l < kLanes; ++l) sum[r][m] += lanes[r][m][l];
          for (int64_t j = i; j < k; ++j) sum[r][m] += w[(first + r) * ldw + j] * a[m * lda + j];
          float& out = c[m * ldc + first + r];
          out = accumulate ? out + sum[r][m] : sum[r][m];
        }
    } else {
      for (int64_t r = first; r < first + rows; ++r)
        for (int m = 0; m < M; ++m) {
          float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
          for (int64_t j = 0; j < k; ++j) sum += w[r * ldw + j] * a[m * lda + j];
          float& out = c[m * ldc + r];
          out = accumulate ? out + sum : sum;
        }
    }
  }
}

}  // namespace

void dot_rows(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t m, int64_t n,
              int64_t k, bool accumulate) {
  switch (m) {
    case 1: return dot_block<1>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 2: return dot_block<2>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 3: return dot_block<3>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 4: return dot_block<4>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 5: return dot_block<5>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 6: return dot_block<6>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    case 7: return dot_block<7>(a, lda, w, ldw, c, ldc, n, k, accumulate);
    default: return dot_block<8>(a, lda, w, ldw, c, ldc, n, k, accumulate);
  }
}

}  // namespace qwen_vl::cpu

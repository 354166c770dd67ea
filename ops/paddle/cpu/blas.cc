#include "ops/paddle/cpu/blas.h"

#include <stdexcept>
#include <string>

// oneDNN's stable C interface; its headers are not in the wheel.
extern "C" int dnnl_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

namespace qwen_vl::cpu {
namespace {

void sgemm(char transb, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
           int64_t m, int64_t n, int64_t k, float alpha, float beta) {
  const int status = dnnl_sgemm('N', transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != 0) throw std::runtime_error("oneDNN sgemm failed with status " + std::to_string(status));
}

}  // namespace

void linear(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc,
            int64_t m, int64_t n, int64_t k, bool accumulate) {
  if (m <= kDotRows) {
    dot_rows(a, lda, w, ldw, c, ldc, m, n, k, accumulate);
  } else {
    sgemm('T', a, lda, w, ldw, c, ldc, m, n, k, 1.0f, accumulate ? 1.0f : 0.0f);
  }
}

void product_transposed(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                        int64_t m, int64_t n, int64_t k, float alpha) {
  sgemm('T', a, lda, b, ldb, c, ldc, m, n, k, alpha, 0.0f);
}

void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
             int64_t m, int64_t n, int64_t k) {
  sgemm('N', a, lda, b, ldb, c, ldc, m, n, k, 1.0f, 0.0f);
}

}  // namespace qwen_vl::cpu

// Matrix products of the CPU kernels.
//
// Large ones go to oneDNN's sgemm, from the libdnnl.so.3 that every Paddle wheel carries and has already loaded:
// it picks AVX2 or AVX-512 code by what the processor can do, also on AMD, where Paddle's MKL does not.
// Products with a few rows (decode) read every weight once, so they run at memory speed in dot.cc.
#pragma once
#include <cstdint>

namespace qwen_vl::cpu {

// c[m, n] = a[m, k] * w[n, k]^T (+ c when accumulate); row-major with leading dimensions in values.
void linear(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t m, int64_t n,
            int64_t k, bool accumulate = false);

// A matrix of weights [rows, columns] in a format of ops/formats.
struct Weights {
  int format;
  const void *matrix, *extra;
};

// Matrix `layer` of a stack.
Weights layer_weights(int format, const void* stack, const void* extra, int64_t layer, int64_t rows, int64_t columns);

// As above with w [n, k].
void linear(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n, int64_t k,
            bool accumulate = false);

// c[m, n] = alpha * a[m, k] * b[n, k]^T on the calling thread's share of the machine.
void product_transposed(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t m,
                        int64_t n, int64_t k, float alpha);

// c[m, n] = a[m, k] * b[k, n].
void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t m, int64_t n,
             int64_t k);

// Rows up to which linear() runs as dot products.
constexpr int64_t kDotRows = 8;

// c[m, n] = a[m, k] * w[n, k]^T (+ c) for m <= kDotRows, parallel over w's rows.
void dot_rows(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t m, int64_t n,
              int64_t k, bool accumulate);

}  // namespace qwen_vl::cpu

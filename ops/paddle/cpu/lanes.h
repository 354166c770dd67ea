// Products with matrices of lanes (ops/formats/lane_products.h), by the widest instructions that the processor has.
#pragma once
#include "ops/paddle/cpu/blas.h"

namespace qwen_vl::cpu {

// As linear() with w [n, k]; false, and nothing is done, where the format or the processor has no such products.
bool lane_linear(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n, int64_t k,
                 bool accumulate);

// The same by instructions of one kind, which the caller must know to be there.
bool lane_linear_avx512(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n,
                        int64_t k, bool accumulate);
bool lane_linear_avx2(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n,
                      int64_t k, bool accumulate);

}  // namespace qwen_vl::cpu

#include "ops/paddle/cpu/blas.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "ops/formats/registry.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/lanes.h"

// oneDNN's stable C interface; its headers are not in the wheel.
extern "C" int dnnl_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

namespace qwen_vl::cpu {
namespace {

constexpr int64_t kUnpackedRows = 128;  // of packed weights at once

void sgemm(char transb, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t m,
           int64_t n, int64_t k, float alpha, float beta) {
  const int status = dnnl_sgemm('N', transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != 0) throw std::runtime_error("oneDNN sgemm failed with status " + std::to_string(status));
}

}  // namespace

void linear(const float* a, int64_t lda, const float* w, int64_t ldw, float* c, int64_t ldc, int64_t m, int64_t n,
            int64_t k, bool accumulate) {
  if (m <= kDotRows) {
    dot_rows(a, lda, w, ldw, c, ldc, m, n, k, accumulate);
  } else {
    sgemm('T', a, lda, w, ldw, c, ldc, m, n, k, 1.0f, accumulate ? 1.0f : 0.0f);
  }
}

Weights layer_weights(int format, const void* stack, const void* extra, int64_t layer, int64_t rows, int64_t columns) {
  return qwen::with_format(format, [&](auto traits) {
    using Format = decltype(traits);
    const auto part = [&](const void* all, int64_t bytes) { return static_cast<const char*>(all) + layer * bytes; };
    return Weights{format, part(stack, rows * Format::row_bytes(columns)),
                   part(extra, Format::extra_bytes(rows, columns))};
  });
}

void linear(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n, int64_t k,
            bool accumulate) {
  if (lane_linear(a, lda, w, c, ldc, m, n, k, accumulate)) return;
  qwen::with_format(w.format, [&](auto traits) {
    using Format = decltype(traits);
    if constexpr (!Format::kOnCpu) {
      throw std::logic_error("a weight format of the GPU's on the CPU");
    } else if constexpr (Format::kPlain) {
      linear(a, lda, static_cast<const float*>(w.matrix), k, c, ldc, m, n, k, accumulate);
    } else {
      const Buffer unpacked = make_buffer(kUnpackedRows * k);
      for (int64_t first = 0; first < n; first += kUnpackedRows) {
        const int64_t rows = std::min(kUnpackedRows, n - first);
        Format::unpack(w.matrix, w.extra, first, rows, k, unpacked.get());
        linear(a, lda, unpacked.get(), k, c + first, ldc, m, rows, k, accumulate);
      }
    }
  });
}

void product_transposed(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t m,
                        int64_t n, int64_t k, float alpha) {
  sgemm('T', a, lda, b, ldb, c, ldc, m, n, k, alpha, 0.0f);
}

void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t m, int64_t n,
             int64_t k) {
  sgemm('N', a, lda, b, ldb, c, ldc, m, n, k, 1.0f, 0.0f);
}

}  // namespace qwen_vl::cpu

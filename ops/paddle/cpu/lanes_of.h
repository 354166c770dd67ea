// lane_linear() for one kind of vectors V (ops/formats/avx2.h, avx512.h); a source file for each kind includes this.
#pragma once
#include <type_traits>

#include "ops/formats/lane_products.h"
#include "ops/formats/registry.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/lanes.h"

namespace qwen_vl::cpu {

constexpr int64_t kLaneBlock = 512;  // rows of a matrix that are floats at once, for products with many rows

// Activations in the order of a format's numbers, row after row without a gap.
template <class Lanes>
void in_lane_order(const float* a, int64_t lda, float* to, int64_t m, int64_t k) {
  int columns[qwen::kLaneColumns];
  for (int s = 0; s < qwen::kLaneColumns; ++s) columns[s] = Lanes::column(s);
#pragma omp parallel for schedule(static) if (m > qwen::kMostLaneProducts)
  for (int64_t row = 0; row < m; ++row)
    for (int64_t tile = 0; tile < k; tile += qwen::kLaneColumns)
      for (int s = 0; s < qwen::kLaneColumns; ++s) to[row * k + tile + s] = a[row * lda + tile + columns[s]];
}

// Few rows, M of them.
template <class Format, class V, int M>
void few_lane_products(const float* ordered, const char* matrix, float* c, int64_t ldc, int64_t n, int64_t k,
                       bool accumulate) {
  using Lanes = typename Format::template Lanes<V>;
  typename V::Vector offsets[M];
  for (int m = 0; m < M; ++m) offsets[m] = qwen::lane_offset<Lanes, V>(k, ordered + m * k);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n; row += qwen::kLaneRows)
    qwen::lane_products<Lanes, V, M>(matrix + row * Format::row_bytes(k), k, ordered, offsets, c + row, ldc, accumulate);
}

template <class Format, class V>
void lane_linear_of(const float* a, int64_t lda, const char* matrix, float* c, int64_t ldc, int64_t m, int64_t n,
                    int64_t k, bool accumulate) {
  using Lanes = typename Format::template Lanes<V>;
  const Buffer ordered = make_buffer(m * k);
  in_lane_order<Lanes>(a, lda, ordered.get(), m, k);
  const auto few = [&](auto rows) {
    few_lane_products<Format, V, decltype(rows)::value>(ordered.get(), matrix, c, ldc, n, k, accumulate);
  };
  switch (m) {
    case 1: return few(std::integral_constant<int, 1>{});
    case 2: return few(std::integral_constant<int, 2>{});
    case 3: return few(std::integral_constant<int, 3>{});
    case 4: return few(std::integral_constant<int, 4>{});
    case 5: return few(std::integral_constant<int, 5>{});
    case 6: return few(std::integral_constant<int, 6>{});
    case 7: return few(std::integral_constant<int, 7>{});
    case 8: return few(std::integral_constant<int, 8>{});
  }
  const Buffer numbers = make_buffer(kLaneBlock * k);
  for (int64_t first = 0; first < n; first += kLaneBlock) {
    const int64_t rows = n - first < kLaneBlock ? n - first : kLaneBlock;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row += qwen::kLaneRows)
      qwen::lane_numbers<Lanes, V>(matrix + (first + row) * Format::row_bytes(k), k, numbers.get() + row * k);
    linear(ordered.get(), k, numbers.get(), k, c + first, ldc, m, rows, k, accumulate);
  }
}

template <class V>
bool lane_linear_by(const float* a, int64_t lda, const Weights& w, float* c, int64_t ldc, int64_t m, int64_t n,
                    int64_t k, bool accumulate) {
  return qwen::with_format(w.format, [&](auto traits) {
    using Format = decltype(traits);
    if constexpr (std::is_void_v<typename Format::template Lanes<V>>) {
      return false;
    } else {
      lane_linear_of<Format, V>(a, lda, static_cast<const char*>(w.matrix), c, ldc, m, n, k, accumulate);
      return true;
    }
  });
}

}  // namespace qwen_vl::cpu

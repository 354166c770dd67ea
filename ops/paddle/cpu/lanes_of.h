// lane_linear() for one kind of vectors V (ops/formats/avx2.h, avx512.h); a source file for each kind includes this.
#pragma once
#include <cstring>
#include <type_traits>

#include "ops/formats/lane_products.h"
#include "ops/formats/registry.h"
#include "ops/paddle/cpu/buffer.h"
#include "ops/paddle/cpu/lanes.h"
#include "ops/paddle/cpu/parallel.h"

namespace qwen_vl::cpu {

constexpr int64_t kLaneBlock = 512;  // rows of a matrix that are floats at once, for products with many rows

// Activations in the order of a format's numbers, at the lane_place of M rows; M is 1 for rows without a gap.
template <class Lanes, class V, int M>
void in_lane_order(const float* a, int64_t lda, float* to, int64_t m, int64_t k) {
  int columns[qwen::kLaneColumns];
  for (int s = 0; s < qwen::kLaneColumns; ++s) columns[s] = Lanes::column(s);
#pragma omp parallel for schedule(static) if (m * k > kParallelValues)
  for (int64_t row = 0; row < m; ++row)
    for (int64_t tile = 0; tile < k; tile += qwen::kLaneColumns)
      for (int s = 0; s < qwen::kLaneColumns; ++s)
        to[row / M * M * k + qwen::lane_place<V, M>(tile + s, row % M)] = a[row * lda + tile + columns[s]];
}

// Few rows, at most M.
template <class Format, class V, int M>
void few_lane_products(const float* a, int64_t lda, const char* matrix, float* c, int64_t ldc, int64_t m, int64_t n,
                       int64_t k, bool accumulate) {
  using Lanes = typename Format::template Lanes<V>;
  const Buffer ordered = make_buffer(M * k);
  if (m < M) std::memset(ordered.get(), 0, M * k * sizeof(float));
  in_lane_order<Lanes, V, M>(a, lda, ordered.get(), m, k);
  typename V::Vector offsets[M];
  for (int row = 0; row < M; ++row) offsets[row] = qwen::lane_offset<Lanes, V, M>(k, ordered.get(), row);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n; row += qwen::kLaneRows)
    qwen::lane_products<Lanes, V, M>(matrix + row * Format::row_bytes(k), k, ordered.get(), offsets, c + row, m, ldc,
                                     accumulate);
}

template <class Format, class V>
void lane_linear_of(const float* a, int64_t lda, const char* matrix, float* c, int64_t ldc, int64_t m, int64_t n,
                    int64_t k, bool accumulate) {
  using Lanes = typename Format::template Lanes<V>;
  const auto few = [&](auto most) {
    few_lane_products<Format, V, decltype(most)::value>(a, lda, matrix, c, ldc, m, n, k, accumulate);
  };
  if (m == 1) return few(std::integral_constant<int, 1>{});
  if (m == 2) return few(std::integral_constant<int, 2>{});
  if (m <= 4) return few(std::integral_constant<int, 4>{});
  if (m <= qwen::kMostLaneProducts) return few(std::integral_constant<int, qwen::kMostLaneProducts>{});
  const Buffer ordered = make_buffer(m * k);
  in_lane_order<Lanes, V, 1>(a, lda, ordered.get(), m, k);
  const Buffer numbers = make_buffer(kLaneBlock * k);
  for (int64_t first = 0; first < n; first += kLaneBlock) {
    const int64_t count = n - first < kLaneBlock ? n - first : kLaneBlock;
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < count; row += qwen::kLaneRows)
      qwen::lane_numbers<Lanes, V>(matrix + (first + row) * Format::row_bytes(k), k, numbers.get() + row * k);
    linear(ordered.get(), k, numbers.get(), k, c + first, ldc, m, count, k, accumulate);
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
